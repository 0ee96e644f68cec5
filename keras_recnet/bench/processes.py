"""The parent's side of a contestant's process."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile

from keras_recnet.bench.candidates import Contestant
from keras_recnet.errors import RecNetError
from keras_recnet.parallel import child_python

_CODE = "from keras_recnet.bench import worker; worker.main()"


class Refused(RecNetError):
    """What a contestant should run cannot be loaded; the message says what is wrong with it."""


class Crashed(RecNetError):
    """A contestant's process ended, or failed at a run."""


class Process:
    """Runs a contestant in a process of its own. Close it, by `with`; that kills the process.

    Args:
        contestant: who.
        threads: that it works with.
    """

    def __init__(self, contestant: Contestant, threads: int):
        self.contestant, self._threads = contestant, threads
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
            with contextlib.suppress(OSError):  # what could not be sent any more
                stream.close()

    def kill(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Orders the load, which `ready` waits for: several processes load at the same time."""
        self._send({"do": "load", "contestant": dataclasses.asdict(self.contestant), "threads": self._threads})

    def ready(self) -> dict:
        """Waits for the load, and gives the network's facts.

        Raises:
            Refused: if that cannot be loaded.
            Crashed: if the process ended or failed.
        """
        return self._answer()

    def ask(self, do: str, **order) -> dict:
        """Gives an order and waits for its answer.

        Raises:
            Crashed: if the process ended or failed.
        """
        self._send({"do": do, **order})
        return self._answer()

    def _send(self, order):
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:  # it has ended: the missing answer says so
            pass

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise Crashed(self._epitaph())
        answer = json.loads(line)
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "failed" in answer:
            raise Crashed(f"{self.contestant}: {answer['failed']}")
        return answer

    def _epitaph(self):
        status = self._process.wait()
        end = f"status {status}"
        if status < 0:
            end = signal.Signals(-status).name
            if -status == signal.SIGKILL:
                end += ", perhaps for want of memory"
        self._stderr.seek(0)
        last = self._stderr.read().decode("utf-8", "replace").strip().splitlines()[-5:]
        return "\n".join([f"{self.contestant}: its process ended ({end}).", *last])
