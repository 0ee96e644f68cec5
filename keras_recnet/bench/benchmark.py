"""The race: contestants run one after another in rounds, A B C A B C …, each while all others hold still."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable

from keras_recnet.bench.candidates import PRODUCT, Contestant
from keras_recnet.bench.networks import pictures_in
from keras_recnet.bench.processes import Crashed, Process

WARM_UP = 2
LEAST = 3  # rounds, however few seconds there are
PAUSE = 0.05  # seconds before a turn: the threads of ONNX Runtime, for one, spin on so long when their work is done


@dataclasses.dataclass
class Result:
    """What was measured of a contestant.

    Attributes:
        contestant: who.
        facts: of the loaded network, see `networks.Network.facts`; empty if it was not loaded.
        seconds: part → seconds of each run, per picture.
        processor: part → seconds of the processor in each run, of all threads together, per picture.
        bursts: pictures a second of each burst.
        memory: bytes at most: `"baseline"` before anything was loaded, `"latency"` after the runs, `"throughput"`
            after the bursts.
        operations: part → floating point operations, per picture.
        error: why it went no further.
    """

    contestant: Contestant
    facts: dict = dataclasses.field(default_factory=dict)
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    processor: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    bursts: list[float] = dataclasses.field(default_factory=list)
    memory: dict[str, int] = dataclasses.field(default_factory=dict)
    operations: dict[str, int | None] = dataclasses.field(default_factory=dict)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Rules:
    """How a race is run.

    Attributes:
        threads: that every contestant works with.
        runs: of each part.
        seconds: instead of `runs`: rounds as long as that, three at least.
        burst: pictures that are worked off at a time to measure the throughput; 0: it is not measured.
        count_operations: as it says.
        pause: seconds before each turn.
    """

    threads: int
    runs: int = 30
    seconds: float | None = None
    burst: int = 8
    count_operations: bool = False
    pause: float = PAUSE

    @property
    def bursts(self) -> int:
        """How many rounds of bursts there are: a tenth of the runs."""
        return max(LEAST, self.runs // 10) if self.burst else 0


class Race:
    """A race of contestants; after Ctrl-C, or a crash, `results` holds what was measured so far.

    Args:
        contestants: who takes part.
        rules: how.
        start: makes the process of a contestant; tests put another in its place.
    """

    def __init__(self, contestants: Iterable[Contestant], rules: Rules, *, start: Callable = Process):
        self.results = [Result(contestant) for contestant in contestants]
        self._rules, self._start, self._running = rules, start, []

    def run(self, progress: Callable[[], None] = lambda: None) -> list[Result]:
        """Runs it, and ends all processes, however it ends.

        Args:
            progress: is called after each round of runs.

        Raises:
            Refused: if a contestant cannot be loaded; nothing was measured then.
        """
        with contextlib.ExitStack() as stack:
            for result in self.results:
                process = stack.enter_context(self._start(result.contestant, self._rules.threads))
                process.start()
                self._running.append((result, process))
            self._all(_ready)
            for _ in range(WARM_UP):
                self._round(lambda result, part, times: None)
            self._runs(progress)
            self._all(lambda result, process: _remember_peak(result, process, "latency"))
            self._bursts()
            if self._rules.count_operations:
                self._all(_count)
        return self.results

    def _runs(self, progress):
        rules, start = self._rules, time.monotonic()
        for done in itertools.count():
            if rules.seconds is None and done >= rules.runs:
                return
            if rules.seconds is not None and done >= LEAST and time.monotonic() - start >= rules.seconds:
                return
            if not self._running:
                return
            self._round(_remember)
            progress()

    def _round(self, remember):
        def runs(result, process):
            for part in result.seconds:
                time.sleep(self._rules.pause)
                remember(result, part, process.ask("run", part=part))

        self._all(runs)

    def _bursts(self):
        pictures = self._rules.burst
        if not pictures:
            return

        def burst(result, process):
            if result.contestant.engine != PRODUCT:
                time.sleep(self._rules.pause)
                result.bursts.append(pictures / process.ask("burst", pictures=pictures)["seconds"])

        for _ in range(1 + self._rules.bursts):
            self._all(burst)
        for result in self.results:
            del result.bursts[:1]  # the first warms up
        self._all(lambda result, process: _remember_peak(result, process, "throughput"))

    def _all(self, action):
        """A turn for each contestant; one whose process fails is out, and the others go on."""
        for result, process in list(self._running):
            try:
                action(result, process)
            except Crashed as error:
                result.error = str(error)
                self._running.remove((result, process))
                process.kill()


def _ready(result, process):
    result.facts = process.ready()
    result.memory["baseline"] = result.facts.pop("baseline")
    result.seconds = {part: [] for part in result.facts["parts"]}
    result.processor = {part: [] for part in result.facts["parts"]}


def _remember(result, part, times):
    result.seconds[part].append(times["seconds"] / pictures_in(part))
    result.processor[part].append(times["processor"] / pictures_in(part))


def _remember_peak(result, process, when):
    result.memory[when] = process.ask("peak")["bytes"]


def _count(result, process):
    result.operations = process.ask("operations")["operations"]
