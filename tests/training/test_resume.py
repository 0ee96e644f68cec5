"""Killing and resuming `keras-recnet train smoke` in separate processes."""

import csv
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from keras_recnet.cli import main; sys.exit(main.main())",
    "train",
    "smoke",
]
OVERRIDES = ["checkpoint.steps=2", "checkpoint.keep=3", "preset.litert=false", "samples=0", "tensorboard=false"]
TIMEOUT = 400  # seconds per process; it takes about 20 on two idle cores


def start(output, *arguments):
    command = [*COMMAND, *(part for entry in (*OVERRIDES, f"output={output}") for part in ("--set", entry)), *arguments]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # may be set where the tests run
    output.parent.mkdir(exist_ok=True)
    with open(output.parent / f"{output.name}.log", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def log_of(output):
    return (output.parent / f"{output.name}.log").read_text(encoding="utf-8")


def newest_step(output):
    steps = [int(path.stem.split("-")[1]) for path in (output / "checkpoints").glob("step-*.npz")]
    return max(steps, default=0)


def wait_for_step(process, output, step):
    deadline = time.monotonic() + TIMEOUT
    while newest_step(output) < step:
        assert process.poll() is None, log_of(output)
        assert time.monotonic() < deadline, log_of(output)
        time.sleep(0.01)


def rows_of(output):
    with open(output / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key not in ("seconds", "peak_memory_mb")} for row in rows]


def test_weights_are_bit_identical_after_three_kills_and_resumptions(tmp_path, processes):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    processes.append(start(uninterrupted))
    rng = random.Random(0)
    for earliest in (1, 5, 9):  # of 16 steps in two epochs
        process = start(killed, *(["--resume"] if earliest > 1 else []))
        processes.append(process)
        wait_for_step(process, killed, rng.randrange(earliest, earliest + 4))
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, log_of(killed)
    processes.append(start(killed, "--resume"))
    assert processes[-1].wait(TIMEOUT) == 0, log_of(killed)
    assert processes[0].wait(TIMEOUT) == 0, log_of(uninterrupted)
    assert log_of(killed).count("Resuming from") == 3
    # TensorFlow logs nothing
    ours = (
        "Training on",
        "32 training",
        "Output folder",
        "Resuming",
        "Epoch",
        "Step",
        "Finished",
        "Best",
        "Preset",
        "Use it",
    )
    assert [line for line in log_of(uninterrupted).splitlines() if line.strip() and not line.startswith(ours)] == []

    for name in ("checkpoints/step-00000016.npz", "checkpoints/best.npz"):
        with np.load(uninterrupted / name) as one, np.load(killed / name) as two:
            arrays = [key for key in one.files if "/" in key]
            assert arrays == [key for key in two.files if "/" in key]
            for key in arrays:
                np.testing.assert_array_equal(one[key], two[key], err_msg=key)
    assert rows_of(uninterrupted) == rows_of(killed)
