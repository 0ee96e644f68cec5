import os
import signal

import pytest

from keras_recnet.bench.candidates import Contestant, peer
from keras_recnet.bench.processes import Crashed, Process, Refused


@pytest.fixture
def relu(write_onnx, tmp_path):
    return peer(str(write_onnx(tmp_path / "relu.onnx", (1, 3, 64, 64))))


def loaded(process):
    process.start()
    return process.ready()


def test_does_what_it_is_told_and_knows_its_own_memory(relu):
    ballast = bytearray(os.urandom(1 << 20)) * 500  # which a forked child would count as its own
    with Process(relu, 1) as process:
        facts = loaded(process)
        assert (facts["parts"], facts["input_shape"]) == (["map"], [1, 3, 64, 64])
        assert process.ask("run", part="map")["seconds"] > 0
        assert process.ask("burst", pictures=3)["seconds"] > 0
        assert process.ask("operations") == {"operations": {}}
        peak = process.ask("peak")["bytes"]
    assert 10e6 < facts["baseline"] < peak < 300e6 < len(ballast)


def test_a_killed_process_is_named(relu):
    with Process(relu, 1) as process:
        loaded(process)
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(Crashed, match=r"relu \(onnx, float32\): its process ended \(SIGKILL, perhaps for want of"):
            process.ask("run", part="map")


def test_a_run_that_fails_is_told_and_what_cannot_be_loaded_as_well(relu, tmp_path):
    with Process(relu, 1) as process:
        loaded(process)
        with pytest.raises(Crashed, match=r"relu \(onnx, float32\): KeyError: 'encode'"):
            process.ask("run", part="encode")
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    with Process(peer(str(tmp_path / "broken.onnx")), 1) as process, pytest.raises(Refused, match="not an ONNX file"):
        loaded(process)


def test_ctrl_c_is_the_parents_to_answer_and_the_parents_end_its_own(relu):
    process = Process(relu, 1)
    loaded(process)
    os.kill(process._process.pid, signal.SIGINT)
    assert process.ask("peak")["bytes"] > 0
    process._process.stdin.close()
    assert process._process.wait(timeout=20) == 0
    process.__exit__()


def test_an_engine_that_is_not_there_is_told_with_the_last_lines():
    with Process(Contestant("n", "abacus", "float32", "n"), 1) as process, pytest.raises(Crashed, match="abacus"):
        loaded(process)
