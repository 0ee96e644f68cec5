import itertools

import pytest

from keras_recnet.bench.benchmark import LEAST, WARM_UP, Race, Rules
from keras_recnet.bench.candidates import Contestant
from keras_recnet.bench.processes import Crashed, Refused

A, B = Contestant("a", "litert", "float32", "a.tflite"), Contestant("b", "keras", "float32", "b")
GROUPS = Contestant("g", "litert", "float32", "g.tflite", of_groups=True)
PRODUCT = Contestant("p", "product", "float32", "8")
PARTS = {"g": ["encode", "group"]}


class Puppet:
    """A process that takes a second for each of its orders, and writes down when it was asked."""

    def __init__(self, contestant, threads, diary, faults):
        self.name, self.threads, self.diary, self.faults = contestant.network, threads, diary, faults
        self.is_alive = True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()

    def kill(self):
        self.is_alive = False

    def start(self):
        self.diary.append(("start", self.name))

    def ready(self):
        self._act("ready")
        return {"parts": PARTS.get(self.name, ["map"]), "baseline": 100}

    def ask(self, do, part=None, pictures=None):
        self._act(do, *([part] if part else []))
        return {"run": {"seconds": 2.0, "processor": 3.0}, "burst": {"seconds": 4.0}, "peak": {"bytes": 300}}.get(
            do, {"operations": {"map": 10}}
        )

    def _act(self, *what):
        assert self.is_alive
        self.diary.append((*what, self.name))
        fault = self.faults.get((self.name, sum(entry == (*what, self.name) for entry in self.diary), *what))
        if fault:
            raise fault


@pytest.fixture
def race():
    """Makes a race of puppets, its diary and its puppets: `race(contestants, faults, **rules)`."""

    def make(contestants, faults=(), **rules):
        diary, puppets = [], []

        def start(contestant, threads):
            puppets.append(Puppet(contestant, threads, diary, dict(faults)))
            return puppets[-1]

        return Race(contestants, Rules(2, pause=0, **rules), start=start), diary, puppets

    return make


def test_all_are_loaded_then_run_in_turns(race):
    made, diary, puppets = race([A, B], runs=3)
    results = made.run()
    runs = [entry[-1] for entry in diary if entry[0] == "run"]
    assert runs == ["a", "b"] * (WARM_UP + 3)
    assert diary[:4] == [("start", "a"), ("start", "b"), ("ready", "a"), ("ready", "b")]
    bursts = [entry[-1] for entry in diary if entry[0] == "burst"]
    assert bursts == ["a", "b"] * (1 + LEAST)
    assert diary.index(("peak", "a")) < diary.index(("burst", "a"))
    assert [puppet.threads for puppet in puppets] == [2, 2]
    assert not any(puppet.is_alive for puppet in puppets)
    for result in results:
        assert result.seconds == {"map": [2.0] * 3}
        assert result.processor == {"map": [3.0] * 3}
        assert result.bursts == [8 / 4.0] * LEAST
        assert result.memory == {"baseline": 100, "latency": 300, "throughput": 300}
        assert (result.operations, result.error) == ({}, None)


def test_parts_take_turns_and_a_group_counts_by_its_pictures(race):
    made, diary, _ = race([GROUPS, A], runs=1, burst=0, count_operations=True)
    grouped, single = made.run()
    assert [entry[1:] for entry in diary if entry[0] == "run"][-3:] == [("encode", "g"), ("group", "g"), ("map", "a")]
    assert grouped.seconds == {"encode": [2.0], "group": [2.0 / 5]}
    assert grouped.processor == {"encode": [3.0], "group": [3.0 / 5]}
    assert single.operations == {"map": 10}
    assert not any(entry[0] == "burst" for entry in diary)


def test_a_matrix_product_has_no_throughput(race):
    made, diary, _ = race([A, PRODUCT], runs=1)
    single, product = made.run()
    assert product.bursts == []
    assert ("burst", "p") not in diary
    assert len(single.bursts) == LEAST


@pytest.mark.parametrize("when", [("a", 1, "ready"), ("a", WARM_UP + 2, "run", "map"), ("a", 2, "burst")])
def test_one_that_crashes_is_named_and_the_others_go_on(race, when):
    made, diary, puppets = race([A, B], {when: Crashed("a: its process ended (SIGSEGV).")}, runs=3)
    first, second = made.run()
    assert first.error == "a: its process ended (SIGSEGV)."
    assert second.error is None
    assert second.seconds == {"map": [2.0] * 3}
    assert len(second.bursts) == LEAST
    assert diary[-1][-1] == "b"
    assert not puppets[0].is_alive


def test_when_all_have_crashed_it_ends(race):
    made, *_ = race([A], {("a", WARM_UP + 2, "run", "map"): Crashed("gone")}, seconds=60)
    (result,) = made.run()
    assert result.seconds == {"map": [2.0]}


def test_what_cannot_be_loaded_stops_it(race):
    made, diary, puppets = race([A, B], {("b", 1, "ready"): Refused("b: damaged")})
    with pytest.raises(Refused, match="b: damaged"):
        made.run()
    assert not any(entry[0] == "run" for entry in diary)
    assert not any(puppet.is_alive for puppet in puppets)


def test_after_ctrl_c_the_runs_until_then_are_there(race):
    made, _, puppets = race([A, B], {("b", WARM_UP + 2, "run", "map"): KeyboardInterrupt()}, runs=5)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert [result.seconds for result in made.results] == [{"map": [2.0] * 2}, {"map": [2.0]}]
    assert not any(puppet.is_alive for puppet in puppets)


def test_seconds_bound_the_rounds_but_three_there_are(race, monkeypatch):
    clock = itertools.count(step=10)
    monkeypatch.setattr("keras_recnet.bench.benchmark.time.monotonic", lambda: next(clock))
    # the clock is looked at before the first round, and then after the third and each later one
    for seconds, rounds in ((1, LEAST), (45, LEAST + 4)):
        told = []
        made, *_ = race([A], seconds=seconds, burst=0)
        (result,) = made.run(lambda told=told: told.append(1))
        assert len(result.seconds["map"]) == len(told) == rounds
