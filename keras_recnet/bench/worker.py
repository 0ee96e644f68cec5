"""The process of one candidate: loads the network, then runs one request at a time and idles in between.

Requests are lines of JSON on standard input. Each is answered with a line of JSON on standard output:

| request | answer |
|---|---|
| `{"do": "load", "candidate": {…}, "threads": n}` | facts about the network |
| `{"do": "run", "part": name}` | `seconds`, and `processor`: CPU seconds of all threads |
| `{"do": "burst", "images": n}` | same as `run` |
| `{"do": "peak_memory"}` | `bytes`: peak memory of the process so far |
| `{"do": "operations"}` | `operations`: part → floating-point operations |

After an error, the answer has the message as `load_error` (the source cannot be loaded) or `run_error` (anything else).
"""

import json
import os
import signal
import sys
import time
import traceback

from keras_recnet.bench.candidates import Candidate
from keras_recnet.errors import RecNetError

SHORT = 0.1  # seconds; a shorter part first gets an untimed run, since other candidates have used the caches


def main() -> None:
    """Answer requests until standard input is closed, which happens when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that print must not disturb the answers
    session = _Session()
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            answer = getattr(session, do)(**request)
        except RecNetError as error:
            answer = {"load_error" if do == "load" else "run_error": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"run_error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class _Session:
    """The requests as methods."""

    def __init__(self):
        self._baseline, self._network, self._last = peak_memory(), None, {}

    def load(self, candidate, threads):
        from keras_recnet.bench import networks

        size = candidate.pop("size")
        self._network = networks.load(Candidate(**candidate, size=size and tuple(size)), threads)
        return {"baseline": self._baseline, **self._network.facts()}

    def run(self, part):
        function = self._network.parts[part]
        if self._last.get(part, SHORT) < SHORT:
            function()
        times = _timed(function)
        self._last[part] = times["seconds"]
        return times

    def burst(self, images):
        return _timed(lambda: self._network.burst(images))

    def peak_memory(self):
        return {"bytes": peak_memory()}

    def operations(self):
        return {"operations": self._network.operations()}


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    try:
        # `getrusage` would include the memory of the parent at the time of the fork.
        with open("/proc/self/status", encoding="utf-8") as status:
            (line,) = (line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # not Linux
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _timed(function):
    processor, start = time.process_time(), time.perf_counter()
    function()
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}
