"""Run candidates in interleaved rounds (A B C A B C …), one at a time while the others are idle."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable

from keras_recnet.bench.candidates import PRODUCT, Candidate
from keras_recnet.bench.networks import images_in
from keras_recnet.bench.processes import Process, RunError

WARM_UP = 2  # rounds
MIN_ROUNDS = 3
PAUSE = 0.05  # seconds before each run; idle threads of ONNX Runtime, for example, keep spinning for a while


@dataclasses.dataclass
class Result:
    """Measurements of a candidate.

    Attributes:
        candidate: the candidate.
        facts: properties of the loaded network, see `networks.Network.facts`; empty if it was not loaded.
        seconds: part → wall-clock seconds per image, one value per run.
        processor: part → CPU seconds of all threads per image, one value per run.
        bursts: images per second, one value per burst.
        memory: peak memory in bytes: `"baseline"` before loading, `"latency"` after the runs, `"throughput"` after the
            bursts.
        operations: part → floating-point operations per image.
        error: why the candidate stopped early; None otherwise.
    """

    candidate: Candidate
    facts: dict = dataclasses.field(default_factory=dict)
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    processor: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    bursts: list[float] = dataclasses.field(default_factory=list)
    memory: dict[str, int] = dataclasses.field(default_factory=dict)
    operations: dict[str, int | None] = dataclasses.field(default_factory=dict)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a benchmark.

    Attributes:
        threads: number of threads of each candidate.
        runs: number of rounds.
        seconds: duration of all rounds, instead of `runs`; there are at least three rounds.
        burst: number of images per burst, for the throughput; 0 skips the bursts.
        count_operations: whether to count floating-point operations.
        pause: seconds before each run.
    """

    threads: int
    runs: int = 30
    seconds: float | None = None
    burst: int = 8
    count_operations: bool = False
    pause: float = PAUSE

    @property
    def bursts(self) -> int:
        """Number of bursts: a tenth of the runs."""
        return max(MIN_ROUNDS, self.runs // 10) if self.burst else 0


class Benchmark:
    """A benchmark of several candidates. After Ctrl-C or a crash, `results` has the measurements so far.

    Args:
        candidates: the candidates.
        settings: the settings.
        start: creates the process of a candidate; tests pass a replacement.
    """

    def __init__(self, candidates: Iterable[Candidate], settings: Settings, *, start: Callable = Process):
        self.results = [Result(candidate) for candidate in candidates]
        self._settings, self._start, self._running = settings, start, []

    def run(self, progress: Callable[[], None] = lambda: None) -> list[Result]:
        """Run the benchmark. All processes are ended, even after an error.

        Args:
            progress: called after each round.

        Raises:
            LoadError: if a candidate cannot be loaded; in this case, nothing is measured.
        """
        with contextlib.ExitStack() as stack:
            for result in self.results:
                process = stack.enter_context(self._start(result.candidate, self._settings.threads))
                process.start_loading()
                self._running.append((result, process))
            self._for_each(_finish_loading)
            for _ in range(WARM_UP):
                self._round(lambda result, part, times: None)
            self._runs(progress)
            self._for_each(lambda result, process: _record_memory(result, process, "latency"))
            self._bursts()
            if self._settings.count_operations:
                self._for_each(_count_operations)
        return self.results

    def _runs(self, progress):
        settings, start = self._settings, time.monotonic()
        for rounds in itertools.count():
            if settings.seconds is None and rounds >= settings.runs:
                return
            if settings.seconds is not None and rounds >= MIN_ROUNDS and time.monotonic() - start >= settings.seconds:
                return
            if not self._running:
                return
            self._round(_record_run)
            progress()

    def _round(self, record):
        def run_parts(result, process):
            for part in result.seconds:
                time.sleep(self._settings.pause)
                record(result, part, process.request("run", part=part))

        self._for_each(run_parts)

    def _bursts(self):
        images = self._settings.burst
        if not images:
            return

        def burst(result, process):
            if result.candidate.engine != PRODUCT:
                time.sleep(self._settings.pause)
                result.bursts.append(images / process.request("burst", images=images)["seconds"])

        for _ in range(1 + self._settings.bursts):
            self._for_each(burst)
        for result in self.results:
            del result.bursts[:1]  # warm-up
        self._for_each(lambda result, process: _record_memory(result, process, "throughput"))

    def _for_each(self, action):
        """Apply an action to each candidate in turn. A candidate whose process fails is removed."""
        for result, process in list(self._running):
            try:
                action(result, process)
            except RunError as error:
                result.error = str(error)
                self._running.remove((result, process))
                process.kill()


def _finish_loading(result, process):
    result.facts = process.finish_loading()
    result.memory["baseline"] = result.facts.pop("baseline")
    result.seconds = {part: [] for part in result.facts["parts"]}
    result.processor = {part: [] for part in result.facts["parts"]}


def _record_run(result, part, times):
    result.seconds[part].append(times["seconds"] / images_in(part))
    result.processor[part].append(times["processor"] / images_in(part))


def _record_memory(result, process, stage):
    result.memory[stage] = process.request("peak_memory")["bytes"]


def _count_operations(result, process):
    result.operations = process.request("operations")["operations"]
