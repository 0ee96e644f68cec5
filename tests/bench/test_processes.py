import os
import signal

import pytest

from keras_recnet.bench.candidates import Candidate, peer
from keras_recnet.bench.processes import LoadError, Process, RunError


@pytest.fixture
def relu(write_onnx, tmp_path):
    return peer(str(write_onnx(tmp_path / "relu.onnx", (1, 3, 64, 64))))


def load(process):
    process.start_loading()
    return process.finish_loading()


def test_a_process_answers_requests_and_measures_only_its_own_memory(relu):
    ballast = bytearray(os.urandom(1 << 20)) * 500  # a forked child would count this as its own
    with Process(relu, 1) as process:
        facts = load(process)
        assert (facts["parts"], facts["input_shape"]) == (["map"], [1, 3, 64, 64])
        assert process.request("run", part="map")["seconds"] > 0
        assert process.request("burst", images=3)["seconds"] > 0
        assert process.request("operations") == {"operations": {}}
        peak = process.request("peak_memory")["bytes"]
    assert 10e6 < facts["baseline"] < peak < 300e6 < len(ballast)


def test_a_killed_process_is_reported(relu):
    with Process(relu, 1) as process:
        load(process)
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(
            RunError, match=r"relu \(onnx, float32\): its process ended \(SIGKILL, possibly for lack of"
        ):
            process.request("run", part="map")


def test_a_failed_run_and_a_failed_load_are_reported(relu, tmp_path):
    with Process(relu, 1) as process:
        load(process)
        with pytest.raises(RunError, match=r"relu \(onnx, float32\): KeyError: 'encode'"):
            process.request("run", part="encode")
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with Process(peer(str(tmp_path / "broken.onnx")), 1) as process, pytest.raises(LoadError, match="not an ONNX file"):
        load(process)


def test_a_process_ignores_ctrl_c_and_ends_with_its_parent(relu):
    process = Process(relu, 1)
    load(process)
    os.kill(process._process.pid, signal.SIGINT)
    assert process.request("peak_memory")["bytes"] > 0
    process._process.stdin.close()
    assert process._process.wait(timeout=20) == 0
    process.__exit__()


def test_an_unknown_engine_is_reported():
    with Process(Candidate("n", "abacus", "float32", "n"), 1) as process, pytest.raises(RunError, match="abacus"):
        load(process)
