import json
import os
import subprocess
import sys

import pytest

from keras_recnet.bench import benchmark
from keras_recnet.bench.processes import Process
from keras_recnet.cli import main


@pytest.fixture
def run(tiny_preset, capfd):
    """Runs `keras-recnet bench` with the tiny preset: `run(*arguments)` -> (status, stdout, stderr)."""

    def run(*arguments, target=tiny_preset):
        status = main.main(["bench", str(target), "--runs", "3", *map(str, arguments)])
        return (status, *capfd.readouterr())

    return run


@pytest.fixture
def peer(write_onnx, tmp_path):
    return write_onnx(tmp_path / "peer.onnx", (1, 3, 16, 16))


def test_json_of_a_preset_against_another_network(run, peer):
    status, stdout, stderr = run("--engine", "litert", "--against", peer, "--threads", 1, "--burst", 2, "--json")
    assert (status, stderr) == (0, "")
    measured = json.loads(stdout)
    assert (measured["threads"], measured["burst"], measured["interrupted"]) == (1, 2, False)
    ours, theirs = measured["contestants"]
    assert (ours["network"], ours["engine"], ours["precision"]) == ("tiny", "litert", "float16")
    assert (theirs["network"], theirs["engine"], theirs["source"]) == ("peer", "onnx", str(peer))
    for one in (ours, theirs):
        assert set(one["memory"]) == {"baseline", "latency", "throughput"}
        assert one["memory"]["baseline"] < one["memory"]["latency"] <= one["memory"]["throughput"]
        (part,) = one["parts"].values()
        assert len(part["times"]) == part["runs"] == 3
        assert min(part["times"]) <= part["p50"] <= part["p90"] <= max(part["times"])
        assert len(one["throughput"]["bursts"]) == benchmark.LEAST
        assert (one["threads"], one["error"]) == (1, None)
    ratio = theirs["parts"]["map"]["p50"] / ours["parts"]["map"]["p50"]
    assert ours["parts"]["map"]["times_as_fast_as"] == {"peer": pytest.approx(ratio)}


def test_a_table_of_rates_and_of_every_part_of_a_group(run, tiny_group_preset):
    status, stdout, stderr = run("--engine", "litert", "--rate", "--matrix", 64, "--burst", 0, target=tiny_group_preset)
    assert (status, stderr) == (0, "")
    machine, _, heads, *rows = stdout.splitlines()
    assert "cores; " in machine
    assert heads.split()[-3:] == ["GFLOP/s", "of", "product"]
    assert [row.split()[4] for row in rows[:1]] == ["encode"]
    assert [row.split()[0] for row in rows[1:4]] == ["step", "decode", "group"]
    assert rows[4].startswith("64×64 product")
    assert all(row.endswith("%") for row in rows[:4])
    assert "\x1b" not in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "0 is not in the range x>=1"),
        (["--engine", "tpu"], "must be one or several of litert, keras, savedmodel. Received: 'tpu'"),
        (["--precision", "int4"], "must be one or several of float16, float32. Received: 'int4'"),
        (["--seconds", "5"], "give one of them"),
        (["--matrix", "64"], "--matrix needs --rate"),
        (["--against-size", "64"], "--against-size needs --against"),
        (["--against", "gone.onnx"], "gone.onnx: there is no such file"),
    ],
)
def test_a_wrong_option_starts_nothing(run, arguments, message, monkeypatch):
    monkeypatch.setattr(benchmark.Race, "run", None)
    status, stdout, stderr = run(*arguments)
    assert (status, stdout) == (2, "")
    assert message in stderr


def test_an_unknown_preset_and_a_file_that_is_no_network_start_nothing(run, tmp_path):
    status, _, stderr = run(target="recnet_lite1")
    assert status == 2
    assert "Did you mean 'recnet_lite0'" in stderr
    (tmp_path / "text.onnx").write_text("This is no network.")
    status, stdout, stderr = run("--engine", "litert", "--against", tmp_path / "text.onnx")
    assert (status, stdout) == (2, "")
    assert "text.onnx: not an ONNX file" in stderr


class Fragile(Process):
    """A process of which the peer's fails at its fourth run, in the way that `how` says."""

    how = None
    made = ()

    def __init__(self, contestant, threads):
        super().__init__(contestant, threads)
        self.made.append(self)
        self.runs = 0

    def ask(self, do, **order):
        self.runs += do == "run"
        if self.runs == benchmark.WARM_UP + 2 and self.contestant.is_peer:
            self.how(self)
        return super().ask(do, **order)


@pytest.fixture
def fragile(monkeypatch):
    """Lets the peer's process fail: `fragile(how)`; gives the list of processes that are made."""

    def arrange(how):
        monkeypatch.setattr(Fragile, "how", staticmethod(how))
        monkeypatch.setattr(Fragile, "made", [])
        monkeypatch.setattr(benchmark.Race.__init__, "__kwdefaults__", {"start": Fragile})
        return Fragile.made

    return arrange


def test_a_crash_is_named_and_the_others_are_measured(run, peer, fragile):
    fragile(lambda process: process._process.kill())
    status, stdout, stderr = run("--engine", "litert", "--against", peer)
    assert status == 1
    assert "1 failed:\n  peer (onnx, float32): its process ended (SIGKILL" in stderr
    row = next(line for line in stdout.splitlines() if line.startswith("tiny"))
    assert float(row.split()[5]) > 0


def test_ctrl_c_ends_the_processes_and_prints_what_there_is(run, peer, fragile):
    def interrupt(process):
        raise KeyboardInterrupt

    processes = fragile(interrupt)
    status, stdout, stderr = run("--engine", "litert", "--against", peer, "--json")
    assert status == 130
    assert stderr == "Interrupted. The numbers are of the runs until then.\n"
    measured = json.loads(stdout)
    assert measured["interrupted"]
    assert [one["parts"]["map"]["runs"] for one in measured["contestants"]] == [2, 1]
    assert all(process._process.poll() is not None for process in processes)


def test_needs_no_keras_and_no_tensorflow(tiny_preset, tmp_path):
    for package in ("keras", "tensorflow"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no', name={package!r})\n")
    command = [sys.executable, "-m", "keras_recnet", "bench", tiny_preset, "--engine", "litert", "--runs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny" in done.stdout
