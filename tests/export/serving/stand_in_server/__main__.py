"""A small server that speaks TF Serving's protocols and runs a real SavedModel, for tests and `benchmarks/soak.py`.

    python tests/export/serving/stand_in_server NAME=FOLDER --batching export/serving/batching.config

It answers REST and gRPC as TF Serving does: the same paths, formats, codes and, where a client can depend on them, the
same messages. It merges requests as TF Serving's BatchingSession does, faults included, and runs the model in a session
as TF Serving does, not as TensorFlow 2 in Python would. It is no server for anybody's use: it has no limits and is
slow where Python is.

One line of JSON on standard output says that it is ready, and at which ports. It serves until its standard input ends.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# By their bare names: the folder is run, not installed.
import batching
import grpc_service
import rest
import served


def main():
    parser = argparse.ArgumentParser(description="TF Serving's protocols over a SavedModel, for tests.")
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="a folder with numbered versions")
    parser.add_argument("--batching", metavar="FILE", help="BatchingParameters; without it requests are not merged")
    parser.add_argument("--rest-port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--grpc-port", type=int, default=0)
    options = parser.parse_args()
    parameters = batching.parse(Path(options.batching).read_text()) if options.batching else None
    models = {}
    for text in options.models:
        name, _, folder = text.partition("=")
        models[name] = served.Model(name, folder, parameters)
    http = rest.start(models, options.rest_port)
    grpc, grpc_port = grpc_service.start(models, options.grpc_port)
    print(json.dumps({"rest": http.server_port, "grpc": grpc_port, "pid": os.getpid()}), flush=True)
    # Whoever started it holds the other end, so it ends with them, however they end.
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    grpc.stop(grace=None)
    http.shutdown()


if __name__ == "__main__":
    main()
