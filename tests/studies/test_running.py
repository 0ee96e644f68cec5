"""`keras-recnet study` on synthetic images."""

import csv
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_recnet import presets
from keras_recnet.cli import main
from keras_recnet.training import synthetic

from .conftest import SMALL

TIMEOUT = 600  # seconds per process; it takes about 20 on two idle cores
PROGRAM = """
import importlib.util, sys
from keras_recnet import backbones
from keras_recnet.cli import main
spec = importlib.util.spec_from_file_location("fixtures", sys.argv[1])
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)
backbones.BACKBONES["tiny"] = fixtures.tiny_backbone
sys.exit(main.main(sys.argv[2:]))
"""
FIXTURES = Path(__file__).parents[1] / "training" / "conftest.py"


def arguments(out, scored, *more, name="recnet-ablation"):
    sets = [part for entry in SMALL for part in ("--set", entry)]
    return ["study", name, "--config", "smoke", "-o", str(out), "--jobs", "1", *sets, *scored, *more]


def start(processes, out, scored):
    command = arguments(out, scored, "--rows", "foreground,two-branches", "--set", "deterministic=true")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    with open(f"{out}.log", "a", encoding="utf-8") as log:
        command = [sys.executable, "-c", PROGRAM, str(FIXTURES), *command]
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    return processes[-1]


def wait_for_checkpoint(process, folder, log):
    deadline = time.monotonic() + TIMEOUT
    while not list(folder.glob("checkpoints/step-*.npz")):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.01)


def test_a_study_that_was_killed_twice_ends_with_the_same_table(tmp_path, scored, processes):
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "killed.log"
    uninterrupted = start(processes, whole, scored)
    for row in ("foreground", "two-branches"):
        process = start(processes, killed, scored)
        wait_for_checkpoint(process, killed / "runs" / row / "seed-1", log)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(processes, killed, scored).wait(TIMEOUT) == 0, log.read_text(encoding="utf-8")
    text = log.read_text(encoding="utf-8")
    assert text.count("Resuming from") == 2
    assert text.count("Preset:") == 2  # the first network was not trained again
    assert uninterrupted.wait(TIMEOUT) == 0, (tmp_path / "whole.log").read_text(encoding="utf-8")
    for file in ("table.csv", "table.md", "table.tex"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    with open(killed / "table.csv", newline="", encoding="utf-8") as lines:
        values = {line["row"]: line["mean"] for line in csv.DictReader(lines) if line["metric"] == "mae"}
    assert values.keys() == {"foreground", "two-branches"}
    assert values["foreground"] != values["two-branches"]


@pytest.fixture
def study(tmp_path, scored, capfd, tiny_backbone):
    """Run a study in this process: `study(*arguments, name=…)` → (status, stdout, stderr)."""

    def study(*more, name="recnet-ablation"):
        status = main.main(arguments(tmp_path / "out", scored, *more, name=name))
        return (status, *capfd.readouterr())

    return study


def test_the_four_fusions_of_one_network_are_scored(study, tmp_path, scored):
    status, stdout, stderr = study(name="recnet-fusion")
    assert status == 0
    assert stderr.count("Preset:") == 1
    assert [line.split(" | ")[0] for line in stdout.splitlines() if line.startswith("| ")][2:] == [
        "| foreground",
        "| inverse-background",
        "| average",
        "| recnet",
    ]
    from keras_recnet.models import RecNet

    preset = tmp_path / "out" / "runs" / "recnet" / "seed-1" / "preset"
    assert not presets.find(preset).has(presets.LITERT)
    model = RecNet.from_preset(preset)
    # after such short training both branches predict nearly the same; make the fusions of the scored maps differ
    # clearly
    bias = model.get_layer("background_head").logits.bias
    bias.assign(bias + 1.0)
    model.save_to_preset(preset)
    shutil.rmtree(tmp_path / "out" / "evaluation")
    status, _, stderr = study(name="recnet-fusion")
    assert (status, stderr.count("Preset:")) == (0, 0)
    image = np.asarray(Image.open(Path(scored[1]) / "0000.png")).astype("float32")
    fusions = {
        "foreground": "foreground",
        "inverse-background": "inverse_background",
        "average": "average",
        "recnet": "subtract",
    }
    written = []
    for row, fusion in fusions.items():
        (folder,) = (tmp_path / "out" / "evaluation" / "maps" / "scored").glob(f"{row}-seed-1-*")
        written.append(np.asarray(Image.open(folder / "0000.png")) / 255)
        expected = model.to_inference(fusion).predict_on_batch(image[None])[0, :, :, 0]
        np.testing.assert_allclose(written[-1], expected, atol=0.004)  # rounded to 8 bits
    assert all(np.abs(one - other).max() > 0.02 for one, other in itertools.combinations(written, 2))


GROUPS = """
title: Group sizes
config: rcau_smoke
metrics: [mae]
draws: 2
rows:
  - {name: all}
  - {name: pairs, network: all, subgroups: 2, compared_with: all}
  - {name: noisy, network: all, subgroups: 2, noise: 1, compared_with: pairs}
"""


def test_subgroups_with_noise_images_are_scored_without_the_noise(tmp_path, capfd, tiny_backbone):
    (tmp_path / "groups.yaml").write_text(GROUPS, encoding="utf-8")
    synthetic.write_groups(tmp_path / "scored", 3, seed=9, size=3, side=64)
    noise, _ = synthetic.write(tmp_path / "noise", 3, seed=5, side=64)
    sets = ["init=random", "model.backbone=tiny", "samples=0", "tensorboard=false", "epochs=1"]
    arguments = ["study", str(tmp_path / "groups.yaml"), "-o", str(tmp_path / "out"), "--jobs", "1"]
    arguments += ["--images", str(tmp_path / "scored/images"), "--masks", str(tmp_path / "scored/masks")]
    arguments += [part for entry in sets for part in ("--set", entry)]
    assert main.main(arguments) == 2
    assert "rows: noisy: needs a folder of noise images (--noise-from DIR)" in capfd.readouterr().err
    assert main.main([*arguments, "--noise-from", str(noise)]) == 0
    assert capfd.readouterr().err.count("Preset:") == 1
    with open(tmp_path / "out/table.csv", newline="", encoding="utf-8") as lines:
        measured = {line["row"]: float(line["mean"]) for line in csv.DictReader(lines)}
    maps = tmp_path / "out" / "evaluation" / "maps"
    for row, images, noisy in (("all", 9, 0), ("pairs", 12, 0), ("noisy", 18, 6)):
        (folder,) = maps.glob(f"*/{row}-seed-1-*")
        files = sorted(folder.rglob("*.png"))
        assert len(files) == images
        own = [path for path in files if "noise" not in path.name]
        assert len(own) == images - noisy
        errors = []
        for path in own:
            group, name = path.relative_to(folder).parts[0], path.stem.rpartition("_")[2]
            mask = np.asarray(Image.open(tmp_path / "scored/masks" / group / f"{name}.png")) > 127
            saliency = np.asarray(Image.open(path)).astype(float)
            saliency = (saliency - saliency.min()) / (saliency.max() - saliency.min())  # as in pysodmetrics
            errors.append(np.abs(saliency - mask).mean())
        assert measured[row] == pytest.approx(np.mean(errors), abs=1e-6)


def test_a_study_adds_rows_and_seeds_and_trains_nothing_twice(study, tmp_path):
    status, _, stderr = study("--rows", "foreground")
    assert (status, stderr.count("Preset:")) == (0, 1)
    status, stdout, stderr = study("--rows", "foreground,two-branches", "--seeds", "1,2", "--dry-run")
    assert status == 0
    states = [line.partition(": ")[2].split(" in")[0] for line in stdout.splitlines() if ", seed " in line]
    assert states == ["trained", "not started", "not started", "not started"]
    assert "keras-recnet train smoke --set checkpoint.keep=1" in stdout
    assert "Remaining training time: about 0:" in stdout
    assert not (tmp_path / "out" / "runs" / "two-branches").exists()
    status, stdout, stderr = study("--rows", "foreground", "--seeds", "1,2")
    assert (status, stderr.count("Preset:")) == (0, 1)
    assert "Run 2 of 2: foreground, seed 2; about 0:" in stderr
    assert "over the seeds 1, 2" in stdout
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "evaluation" / "maps").rglob("*.png")}
    assert study("--rows", "foreground", "--seeds", "1,2")[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    image = tmp_path / "scored" / "images" / "0003.png"
    image.write_bytes(b"not an image")
    status, stdout, stderr = study("--rows", "foreground", "--seeds", "1,2")
    assert status == 1
    assert f"1 not scored:\n  {image}: not an image" in stderr
    assert "| foreground |" in stdout
    status, _, stderr = study("--rows", "foreground", "--set", "epochs=3")
    assert status == 2
    assert "was trained with a different configuration. Differences (then → now): epochs: 2 → 3. Undo them" in stderr


def test_missing_data_is_an_error_before_the_training(study, tmp_path, scored):
    Path(scored[3]).joinpath("0000.png").unlink()
    (tmp_path / "names.txt").write_text("0000\n")
    status, _, stderr = study("--names", str(tmp_path / "names.txt"))
    assert status == 2
    assert "1 of 1 names have no mask" in stderr
    assert not (tmp_path / "out").exists()
    status = main.main(["study", "recnet-ablation", "-o", str(tmp_path / "out")])
    assert status == 2


def test_the_time_is_unknown_before_the_first_run(study):
    status, stdout, _ = study("--dry-run", "--seeds", "3")
    assert status == 0
    assert "Remaining training time: unknown, because no run has started." in stdout


@pytest.mark.parametrize("seeds", ["1,1", "-1", "a", ""])
def test_invalid_seeds_are_usage_errors(study, seeds):
    status, _, stderr = study("--seeds", seeds)
    assert status == 2
    assert "must be different integers of at least 0, such as 0,1,2. Received" in stderr
