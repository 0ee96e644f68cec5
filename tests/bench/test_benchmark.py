import itertools

import pytest

from keras_recnet.bench.benchmark import MIN_ROUNDS, WARM_UP, Benchmark, Settings
from keras_recnet.bench.candidates import Candidate
from keras_recnet.bench.processes import LoadError, RunError

A, B = Candidate("a", "litert", "float32", "a.tflite"), Candidate("b", "keras", "float32", "b")
GROUPS = Candidate("g", "litert", "float32", "g.tflite", takes_groups=True)
PRODUCT = Candidate("p", "product", "float32", "8")
PARTS = {"g": ["encode", "group"]}


class FakeProcess:
    """A process whose measurements are constant. Logs its requests, and fails at the given requests."""

    def __init__(self, candidate, threads, log, failures):
        self.name, self.threads, self.log, self.failures = candidate.network, threads, log, failures
        self.is_alive = True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()

    def kill(self):
        self.is_alive = False

    def start_loading(self):
        self.log.append(("start_loading", self.name))

    def finish_loading(self):
        self._act("finish_loading")
        return {"parts": PARTS.get(self.name, ["map"]), "baseline": 100}

    def request(self, do, part=None, images=None):
        self._act(do, *([part] if part else []))
        answers = {
            "run": {"seconds": 2.0, "processor": 3.0},
            "burst": {"seconds": 4.0},
            "peak_memory": {"bytes": 300},
            "operations": {"operations": {"map": 10}},
        }
        return answers[do]

    def _act(self, *action):
        assert self.is_alive
        self.log.append((*action, self.name))
        count = self.log.count((*action, self.name))
        if failure := self.failures.get((self.name, count, *action)):
            raise failure


@pytest.fixture
def create():
    """Create a benchmark of fake processes: `create(candidates, failures, **settings)` → benchmark, log, processes."""

    def create(candidates, failures=(), **settings):
        log, processes = [], []

        def start(candidate, threads):
            processes.append(FakeProcess(candidate, threads, log, dict(failures)))
            return processes[-1]

        return Benchmark(candidates, Settings(2, pause=0, **settings), start=start), log, processes

    return create


def test_all_candidates_load_and_then_take_turns(create):
    benchmark, log, processes = create([A, B], runs=3)
    results = benchmark.run()
    runs = [entry[-1] for entry in log if entry[0] == "run"]
    assert runs == ["a", "b"] * (WARM_UP + 3)
    assert log[:4] == [
        *(("start_loading", "a"), ("start_loading", "b"), ("finish_loading", "a"), ("finish_loading", "b")),
    ]
    bursts = [entry[-1] for entry in log if entry[0] == "burst"]
    assert bursts == ["a", "b"] * (1 + MIN_ROUNDS)
    assert log.index(("peak_memory", "a")) < log.index(("burst", "a"))
    assert [process.threads for process in processes] == [2, 2]
    assert not any(process.is_alive for process in processes)
    for result in results:
        assert result.seconds == {"map": [2.0] * 3}
        assert result.processor == {"map": [3.0] * 3}
        assert result.bursts == [8 / 4.0] * MIN_ROUNDS
        assert result.memory == {"baseline": 100, "latency": 300, "throughput": 300}
        assert (result.operations, result.error) == ({}, None)


def test_parts_take_turns_and_the_time_of_a_group_is_divided_by_its_images(create):
    benchmark, log, _ = create([GROUPS, A], runs=1, burst=0, count_operations=True)
    group, single = benchmark.run()
    assert [entry[1:] for entry in log if entry[0] == "run"][-3:] == [("encode", "g"), ("group", "g"), ("map", "a")]
    assert group.seconds == {"encode": [2.0], "group": [2.0 / 5]}
    assert group.processor == {"encode": [3.0], "group": [3.0 / 5]}
    assert single.operations == {"map": 10}
    assert not any(entry[0] == "burst" for entry in log)


def test_a_matrix_product_has_no_throughput(create):
    benchmark, log, _ = create([A, PRODUCT], runs=1)
    single, product = benchmark.run()
    assert product.bursts == []
    assert ("burst", "p") not in log
    assert len(single.bursts) == MIN_ROUNDS


@pytest.mark.parametrize("when", [("a", 1, "finish_loading"), ("a", WARM_UP + 2, "run", "map"), ("a", 2, "burst")])
def test_a_crash_is_reported_and_the_others_continue(create, when):
    benchmark, log, processes = create([A, B], {when: RunError("a: its process ended (SIGSEGV).")}, runs=3)
    first, second = benchmark.run()
    assert first.error == "a: its process ended (SIGSEGV)."
    assert second.error is None
    assert second.seconds == {"map": [2.0] * 3}
    assert len(second.bursts) == MIN_ROUNDS
    assert log[-1][-1] == "b"
    assert not processes[0].is_alive


def test_the_benchmark_ends_when_all_candidates_have_crashed(create):
    benchmark, *_ = create([A], {("a", WARM_UP + 2, "run", "map"): RunError("gone")}, seconds=60)
    (result,) = benchmark.run()
    assert result.seconds == {"map": [2.0]}


def test_a_candidate_that_cannot_be_loaded_stops_the_benchmark(create):
    benchmark, log, processes = create([A, B], {("b", 1, "finish_loading"): LoadError("b: damaged")})
    with pytest.raises(LoadError, match="b: damaged"):
        benchmark.run()
    assert not any(entry[0] == "run" for entry in log)
    assert not any(process.is_alive for process in processes)


def test_the_runs_before_ctrl_c_are_kept(create):
    benchmark, _, processes = create([A, B], {("b", WARM_UP + 2, "run", "map"): KeyboardInterrupt()}, runs=5)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run()
    assert [result.seconds for result in benchmark.results] == [{"map": [2.0] * 2}, {"map": [2.0]}]
    assert not any(process.is_alive for process in processes)


def test_seconds_limit_the_rounds_but_there_are_at_least_three(create, monkeypatch):
    clock = itertools.count(step=10)
    monkeypatch.setattr("keras_recnet.bench.benchmark.time.monotonic", lambda: next(clock))
    # the clock is read before the first round, and then after the third and each later one
    for seconds, rounds in ((1, MIN_ROUNDS), (45, MIN_ROUNDS + 4)):
        calls = []
        benchmark, *_ = create([A], seconds=seconds, burst=0)
        (result,) = benchmark.run(lambda calls=calls: calls.append(1))
        assert len(result.seconds["map"]) == len(calls) == rounds
