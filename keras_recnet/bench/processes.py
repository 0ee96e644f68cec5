"""Parent side of a candidate's process."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile

from keras_recnet.bench.candidates import Candidate
from keras_recnet.errors import RecNetError
from keras_recnet.parallel import child_python

_CODE = "from keras_recnet.bench import worker; worker.main()"


class LoadError(RecNetError):
    """The source of a candidate cannot be loaded."""


class RunError(RecNetError):
    """The process of a candidate ended, or a run failed."""


class Process:
    """A process that runs a candidate; a context manager that kills the process at the end.

    Args:
        candidate: the candidate.
        threads: number of threads of the network.
    """

    def __init__(self, candidate: Candidate, threads: int):
        self.candidate, self._threads = candidate, threads
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            **child_python(_CODE, TF_CPP_MIN_LOG_LEVEL=os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(OSError):  # unsent data
                stream.close()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def start_loading(self) -> None:
        """Start loading without waiting, so that several processes load at the same time."""
        self._send({"do": "load", "candidate": dataclasses.asdict(self.candidate), "threads": self._threads})

    def finish_loading(self) -> dict:
        """Wait until the network is loaded and return its facts.

        Raises:
            LoadError: if the network cannot be loaded.
            RunError: if the process ended or failed.
        """
        return self._answer()

    def request(self, do: str, **arguments) -> dict:
        """Send a request and wait for the answer; see `keras_recnet.bench.worker`.

        Raises:
            RunError: if the process ended or failed.
        """
        self._send({"do": do, **arguments})
        return self._answer()

    def _send(self, request):
        with contextlib.suppress(OSError):  # the process has ended; waiting for the answer reports it
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RunError(self._exit_message())
        answer = json.loads(line)
        if "load_error" in answer:
            raise LoadError(answer["load_error"])
        if "run_error" in answer:
            raise RunError(f"{self.candidate}: {answer['run_error']}")
        return answer

    def _exit_message(self):
        status = self._process.wait()
        reason = f"status {status}"
        if status < 0:
            reason = signal.Signals(-status).name
            if -status == signal.SIGKILL:
                reason += ", possibly for lack of memory"
        self._stderr.seek(0)
        last_lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()[-5:]
        return "\n".join([f"{self.candidate}: its process ended ({reason}).", *last_lines])
