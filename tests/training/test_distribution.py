"""Data-parallel training in two processes of this machine, with JAX on the CPU."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_recnet.errors import ConfigError
from keras_recnet.training import run

pytest.importorskip("jax")

TIMEOUT = 400  # seconds per process; it takes about 15 on two idle cores
# Compiling takes most of the time, so optimizations are off, and the resumed run reuses the compiled programs.
FAST_COMPILATION = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
# runs `keras-recnet` with a backbone that is compiled in seconds
CODE = """
import sys
sys.path.insert(0, {tests!r})
from conftest import tiny_backbone
from keras_recnet import backbones
from keras_recnet.cli import main
backbones.BACKBONES["tiny"] = tiny_backbone
sys.exit(main.main())
"""
OVERRIDES = {
    "smoke": ["data.augment=null"],
    "rcau_smoke": ["batch_size=2"],
}
COMMON = ["model.backbone=tiny", "init=random", "deterministic=false", "tensorboard=false", "samples=2"]
COMMON += ["checkpoint.steps=1", "checkpoint.keep=3"]


@pytest.fixture
def start():
    """Start a training run: `start(config, output, *arguments)` -> process."""
    started = []

    def start(config, output, *arguments):
        overrides = [*COMMON, *OVERRIDES[config], f"output={output}"]
        command = [sys.executable, "-c", CODE.format(tests=str(Path(__file__).parent)), "train", config]
        command += [part for entry in overrides for part in ("--set", entry)]
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= {**FAST_COMPILATION, "JAX_COMPILATION_CACHE_DIR": str(output.parent / "compiled")}
        output.parent.mkdir(exist_ok=True)
        with open(output.parent / f"{output.name}-{len(started)}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen([*command, *map(str, arguments)], stdout=log, stderr=log, env=environment)
        process.log = Path(log.name)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def two(start, config, output, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--set", "distribution=data_parallel", "--processes", 2, "--coordinator", f"127.0.0.1:{port}"]
    return [start(config, output, *options, "--process", index, *arguments) for index in range(2)]


def finish(*processes):
    for process in processes:
        assert process.wait(TIMEOUT) == 0, process.log.read_text()


def steps(output):
    return sorted(int(path.stem.split("-")[1]) for path in (output / "checkpoints").glob("step-*.npz"))


@pytest.mark.parametrize("config", ["smoke", "rcau_smoke"])
def test_two_processes_train_like_one_even_if_one_is_killed(start, tmp_path, config):
    one, killed = tmp_path / "one", tmp_path / "killed"
    alone = start(config, one)
    processes = two(start, config, killed)
    deadline = time.monotonic() + TIMEOUT
    while max(steps(killed), default=0) < 3:
        assert processes[0].poll() is None, processes[0].log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGKILL)
    # without it, the other one cannot compute the next step
    assert processes[0].wait(TIMEOUT) == 1
    assert "Error: Another process of this training run has ended" in processes[0].log.read_text()
    finish(alone)
    assert steps(killed)[-1] < steps(one)[-1]
    first, second = two(start, config, killed, "--resume")
    finish(first, second)
    assert "Resuming from" in first.log.read_text()
    assert "Epoch" not in second.log.read_text()  # process 0 reports for all

    assert steps(killed) == steps(one)
    for name in (f"step-{steps(one)[-1]:08d}.npz", "best.npz"):
        with np.load(one / "checkpoints" / name) as expected, np.load(killed / "checkpoints" / name) as arrays:
            assert expected.files == arrays.files
            for key in expected.files:
                if key.startswith("model/"):
                    np.testing.assert_allclose(arrays[key], expected[key], rtol=0, atol=1e-5, err_msg=key)
    rows = [(folder / "log.csv").read_text().splitlines() for folder in (one, killed)]
    header = rows[0][0].split(",")
    for expected, row in zip(*(lines[1:] for lines in rows), strict=True):
        for name, a, b in zip(header, expected.split(","), row.split(","), strict=True):
            if name not in ("seconds", "peak_memory_mb"):
                assert float(b) == pytest.approx(float(a), abs=2e-5), name
    assert (killed / "preset" / "model.weights.h5").is_file()


def test_other_backends_and_flags_without_the_key_are_refused(tiny, tmp_path):
    import keras

    overrides = [*tiny, f"output={tmp_path / 'out'}"]
    if keras.backend.backend() != "jax":
        with pytest.raises(ConfigError, match=r"data_parallel needs the JAX backend: .*keras/issues/20585"):
            run.train("smoke", [*overrides, "distribution=data_parallel"])
    with pytest.raises(ConfigError, match="several processes need --set distribution=data_parallel"):
        run.train("smoke", overrides, processes=2)


def test_all_processes_start_with_the_weights_of_process_0(monkeypatch):
    import keras

    from keras_recnet.training.distribution import DataParallel

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    distribution = DataParallel.__new__(DataParallel)  # without connecting to other processes
    monkeypatch.setattr(distribution, "_gather", lambda value: np.stack([np.full_like(value, 7), value]))
    replica = distribution.replicate(model)
    for weight in replica.weights:
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), 7)
