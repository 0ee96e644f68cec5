import errno
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_recnet.inference.group_predictor import GroupPredictor


@pytest.fixture
def run(run_command, tiny_group_preset):
    """Run `keras-recnet cosal` with the tiny preset: `run(*arguments)` -> (status, stdout, stderr)."""
    return functools.partial(run_command, "cosal", "--preset", tiny_group_preset)


@pytest.fixture
def birds(save_photo):
    """A folder of three images of different sizes."""
    for name, size in (("1.jpg", (48, 64)), ("2.png", (40, 90)), ("3.jpg", (64, 64))):
        folder = save_photo(f"data/birds/{name}", size).parent
    return folder


@pytest.fixture(autouse=True)
def _pillows_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_a_folder_is_a_group(run, birds, tmp_path, tiny_group_preset):
    out = tmp_path / "out"
    types = "mask,binary,cutout,overlay,heatmap,sheet"
    status, stdout, stderr = run(birds, "-o", out, "--type", types)
    assert (status, stdout) == (0, "")
    names = [f"birds/{name}{kind}.png" for name in "123" for kind in ("", ".binary", ".cutout", ".heatmap", ".overlay")]
    assert files_below(out) == sorted([*names, "birds.sheet.png"])
    assert "3 of 3 images in 1 group in " in stderr
    paths = sorted(birds.iterdir())
    for path, expected in zip(paths, GroupPredictor(tiny_group_preset)(paths), strict=True):
        mask = opened(out / "birds" / f"{path.stem}.png")
        assert (mask.mode, mask.size) == ("L", opened(path).size)
        assert np.abs(np.asarray(mask) - 255 * expected).max() <= 0.5001
    assert opened(out / "birds" / "2.cutout.png").mode == "RGBA"


def test_int8_needs_a_preset_with_an_int8_file(run, birds, tmp_path):
    status, _, stderr = run(birds, "-o", tmp_path / "out", "--precision", "int8")
    assert status == 2
    assert "int8 cannot be used: the preset 'tiny_group' has no model.int8.tflite" in stderr
    assert "precision='int8', calibration=PHOTOS) writes it" in stderr
    assert not (tmp_path / "out").exists()


def test_each_image_of_a_group_is_cropped_to_its_largest_object(run, birds, tmp_path, monkeypatch):
    def two_boxes(self, index, decoded=None):
        saliency_map = np.zeros(decoded.size, np.float32)
        saliency_map[10:20, 30 + index : 44] = 1
        saliency_map[30:35, :5] = 1
        return saliency_map, None

    monkeypatch.setattr("keras_recnet.inference.group_predictor.EncodedGroup.map", two_boxes)
    out = tmp_path / "out"
    options = ("--type", "crop", "--margin", "0%", "--aspect", "2:1", "--largest")
    status, stdout, _ = run(birds, "-o", out, *options, "--json")
    assert status == 0
    assert [json.loads(line)["box"] for line in stdout.splitlines()] == [[30 + index, 10, 44, 20] for index in range(3)]
    # 13 × 10 becomes 20 × 10 around x = 37.5
    expected = np.asarray(opened(birds / "2.png"))[10:20, 28:48]
    np.testing.assert_array_equal(opened(out / "birds" / "2.crop.png"), expected)


def test_recursive_makes_a_group_of_each_subfolder(run, birds, save_photo, tmp_path):
    save_photo("data/deep/cats/1.jpg")
    status, _, stderr = run(birds.parent, "-o", tmp_path / "out", "--recursive")
    assert status == 0
    assert files_below(tmp_path / "out") == ["birds/1.png", "birds/2.png", "birds/3.png", "deep/cats/1.png"]
    assert "in 2 groups" in stderr
    assert "Note: deep/cats: a group of one image" in stderr
    status, _, stderr = run(birds.parent, "-o", tmp_path / "again")
    assert status == 2
    assert "Use --recursive to make each of them a group" in stderr


def test_groups_come_from_patterns_and_from_folders_with_the_same_name(run, birds, save_photo, tmp_path):
    other = save_photo("more/birds/1.jpg").parent
    patterns = ("--group", f"mix={birds}/*.jpg", "--group", f"mix={other}/*.jpg")
    status, _, _ = run(birds, other, birds, *patterns[:2], "-o", tmp_path / "out")
    assert status == 0
    names = ["data/birds/1.png", "data/birds/2.png", "data/birds/3.png", "mix/1.png", "mix/3.png", "more/birds/1.png"]
    assert files_below(tmp_path / "out") == names
    status, _, stderr = run(birds, *patterns, "-o", tmp_path / "again")
    assert status == 2
    assert "would both be written to" in stderr


def test_images_with_the_same_name_keep_their_suffix(run, birds, tmp_path):
    shutil.copy(birds / "2.png", birds / "1.png")
    assert run(birds, "-o", tmp_path / "out")[0] == 0
    assert files_below(tmp_path / "out") == ["birds/1.jpg.png", "birds/1.png.png", "birds/2.png", "birds/3.png"]


def test_a_corrupt_image_is_left_out_of_the_group(run, birds, tmp_path):
    assert run(birds, "-o", tmp_path / "clean")[0] == 0
    (birds / "0.jpg").write_bytes((birds / "1.jpg").read_bytes()[:300])
    status, stdout, stderr = run(birds, "-o", tmp_path / "out", "--json", "--type", "mask,sheet")
    assert status == 1
    assert f"1 failed:\n  {birds / '0.jpg'}: " in stderr
    assert "3 of 4 images in 1 group" in stderr
    for name in ("1.png", "2.png", "3.png"):
        assert (tmp_path / "out/birds" / name).read_bytes() == (tmp_path / "clean/birds" / name).read_bytes()
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["0.jpg", "1.jpg", "2.png", "3.jpg", "birds"]
    assert {line["group"] for line in lines} == {"birds"}
    assert "truncated" in lines[0]["error"]
    assert lines[2]["size"] == [40, 90]
    assert lines[4]["outputs"] == {"sheet": str(tmp_path / "out/birds.sheet.png")}


def test_a_group_of_corrupt_images_does_not_stop_the_others(run, birds, save_photo, tmp_path):
    for path in birds.iterdir():
        path.write_text("text")
    good = save_photo("cats/1.jpg").parent
    status, _, stderr = run(birds, good, "-o", tmp_path / "out", "--type", "mask,sheet")
    assert status == 1
    assert "1 of 4 images in 2 groups" in stderr
    assert "3 failed:" in stderr
    assert files_below(tmp_path / "out") == ["cats.sheet.png", "cats/1.png"]


def test_json_contains_the_variance_over_orders(run, birds, tmp_path):
    status, stdout, _ = run(birds, "-o", tmp_path / "out", "--orders", "3", "--json")
    assert status == 0
    assert all(json.loads(line)["variance"] > 0 for line in stdout.splitlines())


def test_a_second_run_skips_existing_outputs(run, birds, tmp_path):
    arguments = (birds, "-o", tmp_path / "out", "--type", "mask,sheet", "--skip-existing", "--json")
    assert run(*arguments)[0] == 0
    before = (tmp_path / "out/birds/2.png").read_bytes()
    (tmp_path / "out/birds/2.png").unlink()
    lines = [json.loads(line) for line in run(*arguments)[1].splitlines()]
    assert [line["skipped"] for line in lines] == [True, False, True, True]
    assert (tmp_path / "out/birds/2.png").read_bytes() == before
    assert all(json.loads(line)["skipped"] for line in run(*arguments)[1].splitlines())


def test_a_single_sheet_is_written_to_a_file(run, birds, tmp_path):
    assert run(birds, "-o", tmp_path / "sheet.png", "--type", "sheet")[0] == 0
    assert files_below(tmp_path) == ["data/birds/1.jpg", "data/birds/2.png", "data/birds/3.jpg", "sheet.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out"], "Missing argument 'FOLDER…'"),
        (["data/birds"], "Missing option '-o'"),
        (["data/birds", "-o", "-"], "not to standard output"),
        (["data/birds", "-o", "data"], "Choose another folder"),
        (["data/birds", "-o", "a.png"], "takes one sheet"),
        (["data/birds", "-o", "out", "--type", "attention"], "Received: 'attention'"),
        (["data/birds", "-o", "out", "--threshold", "0.3"], "--threshold needs --type binary"),
        (["data/birds", "-o", "out", "--group", "../up=*.jpg"], "must be NAME=GLOB"),
        (["data/birds", "-o", "out", "--group", "birds=data/*/*.jpg"], "another group has this name"),
        (["data/birds", "-o", "out", "--seed", "3"], "--seed is for --orders"),
        (["data/birds", "-o", "out", "--preset", "recnet_lite0"], "expected a preset of an RCAUNet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_starts_nothing(run, birds, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    status, stdout, stderr = run(*arguments)
    assert (status, stdout) == (2, "")
    assert message in stderr
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("folder", ["empty", "gone", "data/birds/1.jpg"])
def test_the_error_names_an_input_without_a_group(run, birds, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    status, _, stderr = run(tmp_path / folder, birds, "-o", tmp_path / "out")
    assert status == 1
    assert f"1 failed:\n  {tmp_path / folder}: " in stderr
    assert "3 of 4 images in 1 group" in stderr


def test_a_full_disk_stops_the_run(run, birds, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, stderr = run(birds, "-o", tmp_path / "out")
    assert status == 1
    assert "the disk is full. Free some space or choose another folder. Stopped after 0 of 3" in stderr
    assert files_below(tmp_path / "out") == []


def test_ctrl_c_reports_the_number_of_finished_images(run, birds, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_recnet.inference.group_predictor.GroupStream.finish", interrupted)
    status, _, stderr = run(birds, "-o", tmp_path / "out")
    assert status == 130
    assert "Interrupted after 0 of 3 images." in stderr


def test_cosal_loads_neither_tensorflow_nor_keras(tiny_group_preset, birds, tmp_path):
    code = (
        "import sys\nfrom keras_recnet.cli import main\n"
        "assert main.main(sys.argv[1:]) == 0\n"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
    )
    arguments = ["cosal", birds, "-o", tmp_path / "out", "--preset", tiny_group_preset, "--type", "mask,cutout,sheet"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1  # no messages from LiteRT


def test_two_shards_together_equal_one_run(run, save_photo, tmp_path):
    for group in ("ants", "bees", "cats"):
        for name, size in (("1.jpg", (48, 64)), ("2.png", (40, 90 if group == "bees" else 50))):
            data = save_photo(f"data/{group}/{name}", size).parents[1]
    assert run(data, "--recursive", "-o", tmp_path / "whole")[0] == 0
    parts = tmp_path / "parts"
    status, _, stderr = run(data, "--recursive", "-o", parts, "--shard", "0/2")
    assert status == 0
    assert "4 of 4 images in 2 groups" in stderr
    assert files_below(parts) == ["ants/1.png", "ants/2.png", "cats/1.png", "cats/2.png"]
    assert run(data, "--recursive", "-o", parts, "--shard", "1/2")[0] == 0
    assert files_below(parts) == files_below(tmp_path / "whole")
    for name in files_below(parts):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    status, _, stderr = run(data, "--recursive", "-o", parts, "--shard", "3/4")
    assert (status, stderr) == (0, "Nothing to do: 3 groups, none of them in shard 3/4.\n")
