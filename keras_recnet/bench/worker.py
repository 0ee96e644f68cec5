"""The process of one contestant: it loads the network, then does what it is told, one run at a time, and is still.

Orders come as lines of JSON on standard input, and each is answered by one on standard output:

| order | answer |
|---|---|
| `{"do": "load", "contestant": {…}, "threads": n}` | the network's facts |
| `{"do": "run", "part": name}` | `seconds`, and `processor`: seconds of all threads together |
| `{"do": "burst", "pictures": n}` | the same |
| `{"do": "peak"}` | `bytes`: the most memory that this process has held so far |
| `{"do": "operations"}` | `operations`: part → floating point operations |

An answer with `refused` says what is wrong with what should be loaded; one with `failed`, what else went wrong.
"""

import json
import os
import signal
import sys
import time
import traceback

from keras_recnet.bench.candidates import Contestant
from keras_recnet.errors import RecNetError

SHORT = 0.1  # seconds: such a run comes after one that is not timed, since the others' runs have emptied the caches


def main() -> None:
    """Answers orders until standard input ends, as it does when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between
    session = _Session()
    for line in sys.stdin:
        order = json.loads(line)
        do = order.pop("do")
        try:
            answer = getattr(session, do)(**order)
        except RecNetError as error:
            answer = {"refused" if do == "load" else "failed": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


class _Session:
    """The orders as methods."""

    def __init__(self):
        self._baseline, self._network, self._last = peak_memory(), None, {}

    def load(self, contestant, threads):
        from keras_recnet.bench import networks

        size = contestant.pop("size")
        self._network = networks.load(Contestant(**contestant, size=size and tuple(size)), threads)
        return {"baseline": self._baseline, **self._network.facts()}

    def run(self, part):
        function = self._network.parts[part]
        if self._last.get(part, SHORT) < SHORT:
            function()
        times = _timed(function)
        self._last[part] = times["seconds"]
        return times

    def burst(self, pictures):
        return _timed(lambda: self._network.burst(pictures))

    def peak(self):
        return {"bytes": peak_memory()}

    def operations(self):
        return {"operations": self._network.operations()}


def peak_memory() -> int:
    """The most bytes of memory that this process has held at a time."""
    try:
        # What `getrusage` tells counts what the parent held when it forked.
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
