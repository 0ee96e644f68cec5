"""Starts the stand-in server in a process of its own; read with `runpy`, since this folder is no package."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace


@contextlib.contextmanager
def start(*, batching=None, log=None, **models):
    """Runs the server as long as the block does.

    Args:
        batching: the file of its batching parameters; None: it merges nothing.
        log: an open file for what it writes to stderr; None: this process's stderr.
        **models: name → folder with numbered versions.

    Yields:
        An object with `url`, `target` (for gRPC), `pid` and `runs()`; and, beside what TF Serving tells, `batches()`,
        the number of batches by the number of their requests, for each model that merges, and `memory()`, the bytes
        that the process holds, see `memory.py`.
    """
    command = [sys.executable, str(Path(__file__).parent), *(f"{name}={folder}" for name, folder in models.items())]
    if batching is not None:
        command += ["--batching", str(batching)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"The stand-in server ended with status {process.wait()} before it was ready.")
        ready = json.loads(line)
        url = f"http://127.0.0.1:{ready['rest']}"
        yield SimpleNamespace(
            url=url,
            target=f"127.0.0.1:{ready['grpc']}",
            pid=process.pid,
            runs=lambda: process.poll() is None,
            batches=lambda: {
                name: {int(size): count for size, count in counts.items()}
                for name, counts in _get(f"{url}/stand-in/batches").items()
            },
            memory=lambda: _get(f"{url}/stand-in/memory"),
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
