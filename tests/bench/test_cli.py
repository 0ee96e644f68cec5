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
    """Run `keras-recnet bench` on the tiny preset: `run(*arguments)` -> (status, stdout, stderr)."""

    def run(*arguments, target=tiny_preset):
        status = main.main(["bench", str(target), "--runs", "3", *map(str, arguments)])
        return (status, *capfd.readouterr())

    return run


@pytest.fixture
def peer(write_onnx, tmp_path):
    return write_onnx(tmp_path / "peer.onnx", (1, 3, 16, 16))


def test_a_preset_and_a_peer_are_written_as_json(run, peer):
    status, stdout, stderr = run("--engine", "litert", "--against", peer, "--threads", 1, "--burst", 2, "--json")
    assert (status, stderr) == (0, "")
    report = json.loads(stdout)
    assert (report["threads"], report["burst"], report["interrupted"]) == (1, 2, False)
    own, other = report["candidates"]
    assert (own["network"], own["engine"], own["precision"]) == ("tiny", "litert", "float16")
    assert (other["network"], other["engine"], other["source"]) == ("peer", "onnx", str(peer))
    for each in (own, other):
        assert set(each["memory"]) == {"baseline", "latency", "throughput"}
        assert each["memory"]["baseline"] < each["memory"]["latency"] <= each["memory"]["throughput"]
        (part,) = each["parts"].values()
        assert len(part["times"]) == part["runs"] == 3
        assert min(part["times"]) <= part["p50"] <= part["p90"] <= max(part["times"])
        assert len(each["throughput"]["bursts"]) == benchmark.MIN_ROUNDS
        assert (each["threads"], each["error"]) == (1, None)
    ratio = other["parts"]["map"]["p50"] / own["parts"]["map"]["p50"]
    assert own["parts"]["map"]["times_as_fast_as"] == {"peer": pytest.approx(ratio)}


def test_the_printed_table_has_rates_and_every_part_of_a_group(run, tiny_group_preset):
    status, stdout, stderr = run("--engine", "litert", "--rate", "--matrix", 64, "--burst", 0, target=tiny_group_preset)
    assert (status, stderr) == (0, "")
    machine, _, header, *rows = stdout.splitlines()
    assert "cores; " in machine
    assert header.split()[-3:] == ["GFLOP/s", "of", "product"]
    assert [row.split()[4] for row in rows[:1]] == ["encode"]
    assert [row.split()[0] for row in rows[1:4]] == ["step", "decode", "group"]
    assert rows[4].startswith("64×64 product")
    # a step only adds
    assert [row.endswith("%") for row in rows[:4]] == [True, False, True, True]
    assert "\x1b" not in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "0 is not in the range x>=1"),
        (["--engine", "tpu"], "must be one or more of litert, keras, savedmodel. Received: 'tpu'"),
        (["--precision", "int4"], "must be one or more of float16, float32, int8. Received: 'int4'"),
        (["--seconds", "5"], "--runs and --seconds cannot be combined"),
        (["--matrix", "64"], "--matrix needs --rate"),
        (["--against-size", "64"], "--against-size needs --against"),
        (["--against", "gone.onnx"], "gone.onnx: no such file"),
    ],
)
def test_an_invalid_option_starts_nothing(run, arguments, message, monkeypatch):
    monkeypatch.setattr(benchmark.Benchmark, "run", None)
    status, stdout, stderr = run(*arguments)
    assert (status, stdout) == (2, "")
    assert message in stderr


def test_an_unknown_preset_and_a_damaged_file_start_nothing(run, tmp_path):
    status, _, stderr = run(target="recnet_lite1")
    assert status == 2
    assert "Did you mean 'recnet_lite0'" in stderr
    (tmp_path / "text.onnx").write_text("not a network")
    status, stdout, stderr = run("--engine", "litert", "--against", tmp_path / "text.onnx")
    assert (status, stdout) == (2, "")
    assert "text.onnx: not an ONNX file" in stderr


class FailingProcess(Process):
    """A process that calls `fail` before the fourth run of the peer."""

    fail = None
    started = ()

    def __init__(self, candidate, threads):
        super().__init__(candidate, threads)
        self.started.append(self)
        self.runs = 0

    def request(self, do, **arguments):
        self.runs += do == "run"
        if self.runs == benchmark.WARM_UP + 2 and self.candidate.is_peer:
            self.fail(self)
        return super().request(do, **arguments)


@pytest.fixture
def fail_in_run(monkeypatch):
    """Make the peer's process fail: `fail_in_run(fail)`. Returns the list of processes, filled as they start."""

    def arrange(fail):
        monkeypatch.setattr(FailingProcess, "fail", staticmethod(fail))
        monkeypatch.setattr(FailingProcess, "started", [])
        monkeypatch.setattr(benchmark.Benchmark.__init__, "__kwdefaults__", {"start": FailingProcess})
        return FailingProcess.started

    return arrange


def test_a_crash_is_reported_and_the_others_are_measured(run, peer, fail_in_run):
    fail_in_run(lambda process: process._process.kill())
    status, stdout, stderr = run("--engine", "litert", "--against", peer)
    assert status == 1
    assert "1 failed:\n  peer (onnx, float32): its process ended (SIGKILL" in stderr
    row = next(line for line in stdout.splitlines() if line.startswith("tiny"))
    assert float(row.split()[5]) > 0


def test_ctrl_c_ends_the_processes_and_prints_the_measurements_so_far(run, peer, fail_in_run):
    def interrupt(process):
        raise KeyboardInterrupt

    processes = fail_in_run(interrupt)
    status, stdout, stderr = run("--engine", "litert", "--against", peer, "--json")
    assert status == 130
    assert stderr == "Interrupted. The measurements so far are shown.\n"
    report = json.loads(stdout)
    assert report["interrupted"]
    assert [each["parts"]["map"]["runs"] for each in report["candidates"]] == [2, 1]
    assert all(process._process.poll() is not None for process in processes)


def test_a_litert_benchmark_needs_neither_keras_nor_tensorflow(tiny_preset, tmp_path):
    for package in ("keras", "tensorflow"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no', name={package!r})\n")
    command = [sys.executable, "-m", "keras_recnet", "bench", tiny_preset, "--engine", "litert", "--runs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert "tiny" in process.stdout
