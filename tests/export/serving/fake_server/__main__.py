"""A fake TF Serving that runs a real SavedModel, for tests and `benchmarks/soak.py`.

    python tests/export/serving/fake_server NAME=FOLDER --batching export/serving/batching.config

It implements the REST and gRPC APIs of TF Serving: the same paths, formats, codes and, if clients depend on them,
messages. It batches requests like TF Serving's BatchingSession, bugs included, and runs the model in a session, as
TF Serving does, not as TensorFlow 2 does in Python. It is for tests only: it is slow and has no limits.

When it is ready, it writes its ports to standard output as a line of JSON. It serves until its standard input is
closed.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# top-level names, since the folder is run as a script
import batching
import grpc_service
import rest
import served


def main():
    parser = argparse.ArgumentParser(description="A fake TF Serving for tests.")
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="folder with numbered versions")
    parser.add_argument("--batching", metavar="FILE", help="BatchingParameters; no batching if not given")
    parser.add_argument("--rest-port", type=int, default=0, help="0: any free port")
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
    # standard input also closes if the parent is killed, so the server stops
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()
    grpc.stop(grace=None)
    http.shutdown()


if __name__ == "__main__":
    main()
