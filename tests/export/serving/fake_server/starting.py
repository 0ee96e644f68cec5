"""Start the fake server in a separate process. Load it with `runpy`, since this folder is not a package."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace


@contextlib.contextmanager
def start(*, batching=None, log=None, **models):
    """Run the server in a `with` block.

    Args:
        batching: file of batching parameters; None: no batching.
        log: open file for its stderr; None: the stderr of this process.
        **models: name → folder with numbered versions.

    Yields:
        An object with `url`, `target` (for gRPC), `pid` and `runs()`; and, in addition to the API of TF Serving,
        `batches()`, the number of batches per number of requests for each model with batching, and `memory()`, the
        memory of the process (see `memory.py`).
    """
    command = [sys.executable, str(Path(__file__).parent), *(f"{name}={folder}" for name, folder in models.items())]
    if batching is not None:
        command += ["--batching", str(batching)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"The fake server ended with status {process.wait()} before it was ready.")
        ready = json.loads(line)
        url = f"http://127.0.0.1:{ready['rest']}"
        yield SimpleNamespace(
            url=url,
            target=f"127.0.0.1:{ready['grpc']}",
            pid=process.pid,
            runs=lambda: process.poll() is None,
            batches=lambda: {
                name: {int(size): count for size, count in counts.items()}
                for name, counts in _get(f"{url}/test/batches").items()
            },
            memory=lambda: _get(f"{url}/test/memory"),
        )
    finally:
        process.terminate()
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)
