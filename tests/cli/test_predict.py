import errno
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import keras_recnet
from keras_recnet.cli import options
from keras_recnet.inference import outputs


def command(*arguments):
    return [sys.executable, "-m", "keras_recnet", *map(str, arguments)]


@pytest.fixture
def many(save_photo, tmp_path, bomb):
    """A folder of 50 good images and four bad ones."""
    folder = tmp_path / "many"
    for number in range(50):
        save_photo(f"many/{'sub/' if number % 2 else ''}{number:02}.jpg", (40 + number, 60), quality=90)
    (folder / "truncated.jpg").write_bytes((folder / "00.jpg").read_bytes()[:700])
    (folder / "text.png").write_text("This is not an image.\n" * 10)
    (folder / "empty.png").touch()
    bomb.rename(folder / "bomb.png")
    return folder


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_four_bad_files_do_not_stop_fifty_good_ones(run, many, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = run(many, "-o", out)
    assert status == 1
    assert stdout == ""
    expected = [f"{'sub/' if number % 2 else ''}{number:02}.png" for number in range(50)]
    assert files_below(out) == sorted(expected)
    for number, name in enumerate(expected):
        mask = opened(out / name)
        assert (mask.mode, mask.size) == ("L", (60, 40 + number))
    assert "50 of 54 images" in stderr
    assert "\n4 failed:\n" in stderr
    failures = stderr.partition("4 failed:\n")[2].splitlines()
    reasons = {"bomb.png": "refused", "empty.png": "empty", "text.png": "known format", "truncated.jpg": "truncated"}
    assert len(failures) == 4
    for line, (name, reason) in zip(failures, reasons.items(), strict=True):
        assert line.startswith(f"  {many / name}: ")
        assert reason in line


@pytest.mark.parametrize("flip", [False, True])
def test_a_mask_is_the_map_in_8_bits(run, save_photo, tiny_preset, tmp_path, flip):
    photo = save_photo("photo.jpg", (70, 90))
    status, _, stderr = run(photo, "-o", tmp_path / "out", *(["--flip"] if flip else []))
    assert (status, "and mirrored" in stderr) == (0, flip)
    expected = keras_recnet.Predictor(tiny_preset, flip=flip)(photo) * 255
    assert np.abs(np.asarray(opened(tmp_path / "out" / "photo.png")) - expected).max() <= 0.5001


def test_every_type_has_the_size_of_the_image(run, save_photo, tmp_path):
    photo = save_photo("photo.jpg", (70, 90))
    types = "mask,binary,cutout", "overlay,heatmap,attention"  # all except crop
    status, _, stderr = run(
        photo, "-o", tmp_path / "out", "--type", types[0], "--type", types[1], "--threshold", "adaptive"
    )
    assert status == 0
    assert "keras 64×64" in stderr
    modes = {
        "photo.png": "L",
        "photo.binary.png": "L",
        "photo.cutout.png": "RGBA",
        "photo.overlay.png": "RGB",
        "photo.heatmap.png": "RGB",
        "photo.attention.png": "RGB",
    }
    assert files_below(tmp_path / "out") == sorted(modes)
    for name, mode in modes.items():
        image = opened(tmp_path / "out" / name)
        assert (image.mode, image.size) == (mode, (90, 70))
    assert set(np.unique(opened(tmp_path / "out" / "photo.binary.png"))) <= {0, 255}


def test_the_background_of_a_cutout_is_a_color_or_an_image(run, save_photo, tmp_path):
    photo, ground = save_photo("photo.jpg"), save_photo("ground.png", (10, 10))
    for background in ("#00ff00", ground):
        assert run(photo, "-o", tmp_path / "out", "--type", "cutout", "--background", background)[0] == 0
        assert opened(tmp_path / "out" / "photo.cutout.png").mode == "RGB"
    status, _, stderr = run(photo, "-o", tmp_path / "out", "--type", "cutout", "--background", "greenish")
    assert status == 2
    assert "greenish: neither a color (white, #ff8800) nor a file" in stderr
    status, _, stderr = run(photo, "-o", tmp_path / "out", "--type", "cutout", "--background", "#00ff0080")
    assert status == 2
    assert "#00ff0080: a color with transparency" in stderr


def test_cutouts_and_overlays_keep_the_color_profile(run, tmp_path, save_photo):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = save_photo("photo.png", icc_profile=profile)
    run(photo, "-o", tmp_path / "out", "--type", "cutout,heatmap,overlay")
    assert opened(tmp_path / "out" / "photo.overlay.png").info["icc_profile"] == profile
    assert opened(tmp_path / "out" / "photo.cutout.png").info["icc_profile"] == profile
    assert "icc_profile" not in opened(tmp_path / "out" / "photo.heatmap.png").info


@pytest.mark.parametrize(
    ("name", "kind", "format", "mode"),
    [
        ("map.jpg", "mask", "JPEG", "L"),
        ("cut.WEBP", "cutout", "WEBP", "RGBA"),
        ("over.jpeg", "overlay", "JPEG", "RGB"),
        ("map.png", "mask", "PNG", "L"),
    ],
)
def test_an_output_file_has_the_format_of_its_suffix(run, save_photo, tmp_path, name, kind, format, mode):
    photo = save_photo("photo.jpg")
    assert run(photo, "-o", tmp_path / name, "--type", kind)[0] == 0
    image = opened(tmp_path / name)
    assert (image.format, image.mode, image.size) == (format, mode, (64, 48))
    assert files_below(tmp_path) == sorted([name, "photo.jpg"])


@pytest.fixture
def known_map(monkeypatch):
    """Function that replaces the map of every image with boxes: `known_map((left, top, right, bottom), …)`."""

    def replace(*boxes):
        def predict(self, decoded, **_):
            saliency_map = np.zeros(decoded.size, np.float32)
            for left, top, right, bottom in boxes:
                saliency_map[top:bottom, left:right] = 1
            return saliency_map

        monkeypatch.setattr("keras_recnet.inference.predictor.Predictor.predict", predict)

    return replace


def test_a_crop_shows_the_object_and_json_reports_its_box_and_center(run, save_photo, tmp_path, known_map):
    known_map((10, 20, 30, 26))
    photo = save_photo("photo.png", (48, 64))
    out = tmp_path / "out"
    status, stdout, _ = run(photo, "-o", out, "--type", "crop", "--margin", "10%", "--aspect", "2:1", "--json")
    assert status == 0
    assert (json.loads(stdout)["box"], json.loads(stdout)["center"]) == ([10, 20, 30, 26], [20, 23])
    # 24 × 10 with the margin, 24 × 12 in 2:1
    np.testing.assert_array_equal(opened(out / "photo.crop.png"), np.asarray(opened(photo))[17:29, 8:32])
    assert run(photo, "-o", tmp_path / "crop.jpg", "--type", "crop")[0] == 0
    assert opened(tmp_path / "crop.jpg").size == (22, 8)


def test_the_largest_object_without_holes_is_used_in_every_output(run, save_photo, tmp_path, known_map):
    known_map((0, 0, 30, 5), (0, 15, 30, 20), (0, 5, 10, 15), (20, 5, 30, 15), (50, 40, 60, 48))
    photo = save_photo("photo.png", (48, 64))
    out = tmp_path / "out"
    status, stdout, _ = run(photo, "-o", out, "--type", "mask,binary", "--largest", "--fill-holes", "--json")
    assert (status, json.loads(stdout)["box"]) == (0, [0, 0, 30, 20])
    expected = np.zeros((48, 64), np.uint8)
    expected[:20, :30] = 255
    np.testing.assert_array_equal(opened(out / "photo.png"), expected)
    np.testing.assert_array_equal(opened(out / "photo.binary.png"), expected)


def test_an_image_without_an_object_is_noted_and_cropped_to_its_center(run, save_photo, tmp_path, known_map):
    known_map()
    photo = save_photo("photo.png", (48, 64))
    status, stdout, stderr = run(photo, "-o", tmp_path / "out", "--type", "crop", "--aspect", "1:1", "--json")
    assert status == 0
    result = json.loads(stdout)
    assert (result["box"], result["center"]) == (None, None)
    assert f"Note: {photo}: no object was found" in stderr
    np.testing.assert_array_equal(opened(tmp_path / "out" / "photo.crop.png"), np.asarray(opened(photo))[:, 8:56])


def test_fusion_selects_the_fusion_of_the_branches(run, tiny_preset, save_photo, tmp_path):
    photo, maps = save_photo("photo.jpg", (64, 64)), {}  # the network's size
    for fusion in options.FUSIONS:
        status, _, stderr = run(photo, "-o", tmp_path / f"{fusion}.png", "--fusion", fusion)
        assert status == 0
        assert ("its LiteRT file has the fusion 'average', not" in stderr) == (fusion != "average")
        maps[fusion] = np.asarray(Image.open(tmp_path / f"{fusion}.png")).astype(float) / 255
    average = (maps["foreground"] + maps["inverse_background"]) / 2  # the definition of the other two fusions
    np.testing.assert_allclose(maps["average"], average, atol=0.01)
    subtract = np.maximum(maps["foreground"] + maps["inverse_background"] - 1, 0)
    np.testing.assert_allclose(maps["subtract"], subtract, atol=0.01)
    assert np.abs(maps["foreground"] - maps["subtract"]).max() > 0.1
    status, _, stderr = run(photo, "-o", tmp_path / "a.png", "--fusion", "subtract", "--engine", "litert")
    assert status == 2
    assert "the LiteRT engine cannot be used: its LiteRT file has the fusion 'average', not 'subtract'" in stderr


def test_the_choices_of_fusion_are_those_of_the_layer():
    from keras_recnet.layers import fusion

    assert tuple(fusion.FUSIONS) == options.FUSIONS


def test_attention_needs_a_pixel_in_the_image_and_the_keras_engine(run, save_photo, tmp_path):
    photo = save_photo("photo.png", (40, 80))
    assert run(photo, "-o", tmp_path / "a.png", "--type", "attention", "--pixel", "79,39")[0] == 0
    status, _, stderr = run(photo, "-o", tmp_path / "a.png", "--type", "attention", "--pixel", "80,0")
    assert status == 1
    assert f"{photo}: --pixel 80,0 is outside this image of 80 × 40 pixels" in stderr
    status, _, stderr = run(photo, "-o", tmp_path / "a.png", "--type", "attention", "--engine", "litert")
    assert status == 2
    assert "needs --engine keras" in stderr


def test_a_second_run_skips_existing_outputs(run, save_photo, tmp_path):
    folder = save_photo("in/a.jpg").parent
    save_photo("in/b.jpg")
    out = folder / "maps"
    assert run(folder, "-o", out)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "b.png").unlink()
    status, stdout, stderr = run(folder, "-o", out, "--skip-existing", "--json")
    assert status == 0
    assert "2 of 2 images (1 skipped) in " in stderr
    first, second = map(json.loads, stdout.splitlines())
    assert (first["source"], first["skipped"]) == (str(folder / "a.jpg"), True)
    assert (second["source"], second["skipped"]) == (str(folder / "b.jpg"), False)
    assert (out / "a.png").stat().st_mtime_ns == before[out / "a.png"]
    assert files_below(out) == ["a.png", "b.png"]


def test_a_search_skips_earlier_outputs(run, save_photo, tmp_path, monkeypatch):
    save_photo("a.jpg")
    save_photo("sub/b.png", icc_profile=b"profile" * 1000)
    monkeypatch.chdir(tmp_path)
    assert run(".", "-o", "cut", "--type", "mask,cutout")[0] == 0
    first = files_below("cut")
    assert first == ["a.cutout.png", "a.png", "sub/b.cutout.png", "sub/b.png"]
    assert run("a.jpg", "-o", "a.png")[0] == 0
    for inputs in (".", "**"):
        assert run(inputs, "-o", "again", "--type", "mask,cutout")[0] == 0
        assert files_below("again") == first
    status, _, stderr = run("cut", "-o", "more")
    assert status == 2
    assert "only earlier outputs" in stderr
    assert run("cut/a.png", "-o", "more")[0] == 0


def test_json_has_a_line_per_image(run, save_photo, tmp_path):
    photo = save_photo("in/föto.jpg", (30, 50))
    (photo.parent / "x.png").write_text("text")
    out = tmp_path / "out"
    status, stdout, stderr = run(photo.parent, tmp_path / "gone.jpg", "-o", out, "--json", "--type", "mask,heatmap")
    assert status == 1
    results = {result["source"]: result for result in map(json.loads, stdout.splitlines())}
    assert list(results) == [str(tmp_path / "gone.jpg"), str(photo), str(photo.parent / "x.png")]
    assert "no such file" in results[str(tmp_path / "gone.jpg")]["error"]
    good = results[str(photo)]
    assert good["outputs"] == {"mask": str(out / "föto.png"), "heatmap": str(out / "föto.heatmap.png")}
    assert good["size"] == [30, 50]
    assert good["error"] is None
    assert good["seconds"] > 0
    assert "known format" in results[str(photo.parent / "x.png")]["error"]
    assert "2 failed:" in stderr


def test_predict_reads_standard_input_and_writes_standard_output(tiny_preset, save_photo):
    photo = save_photo("photo.jpg", (33, 44))
    done = subprocess.run(
        command("predict", "-", "-o", "-", "--preset", tiny_preset), input=photo.read_bytes(), capture_output=True
    )
    assert done.returncode == 0
    assert done.stderr == b""
    image = Image.open(io.BytesIO(done.stdout))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (44, 33))
    done = subprocess.run(
        command("predict", "-", "-o", "-", "--preset", tiny_preset), input=b"text", capture_output=True
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"standard input: not an image" in done.stderr


@pytest.mark.parametrize("reader", ["help", "version", "predict --help", "cosal --help"])
def test_help_loads_no_large_package(reader):
    argument = {
        "help": ["--help"],
        "version": ["--version"],
        "predict --help": ["predict", "--help"],
        "cosal --help": ["cosal", "--help"],
    }[reader]
    code = (
        "import sys\nfrom keras_recnet.cli import main\n"
        f"assert main.main({argument!r}) == 0\n"
        "large = {'numpy', 'PIL', 'cv2', 'rich', 'keras', 'tensorflow', 'ai_edge_litert'} & set(sys.modules)\n"
        "assert not large, large\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {
        "help": "predict",
        "version": keras_recnet.__version__,
        "predict --help": "--skip-existing",
        "cosal --help": "--recursive",
    }[reader]
    assert expected in done.stdout


def test_predict_on_litert_loads_neither_tensorflow_nor_keras(tiny_preset, save_photo, tmp_path):
    code = (
        "import sys\nfrom keras_recnet.cli import main\n"
        "assert main.main(sys.argv[1:]) == 0\n"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
    )
    arguments = [
        "predict",
        save_photo("a.jpg"),
        "-o",
        tmp_path / "out",
        "--preset",
        tiny_preset,
        "--type",
        "mask,cutout",
    ]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1  # no messages from LiteRT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jpg"], "Missing option '-o'"),
        (["-o", "out"], "Missing argument"),
        (["a.jpg", "-o", "out", "--type", "mask,masks"], "Received: 'masks'"),
        (["a.jpg", "-o", "out", "--background", "red"], "--background needs --type cutout"),
        (["a.jpg", "-o", "out", "--threshold", "0.3"], "--threshold needs --type binary"),
        (["a.jpg", "-o", "out", "--pixel", "1,2"], "--pixel needs --type attention"),
        (["a.jpg", "-o", "out", "--margin", "3%"], "--margin needs --type crop"),
        (["a.jpg", "-o", "out", "--aspect", "1:1"], "--aspect needs --type crop"),
        (["a.jpg", "-o", "out", "--type", "crop", "--margin", "3"], "such as 3%. Received: '3'"),
        (["a.jpg", "-o", "out", "--type", "crop", "--margin", "-3%"], "such as 3%. Received: '-3%'"),
        (["a.jpg", "-o", "out", "--type", "crop", "--aspect", "4/3"], "such as 4:3. Received: '4/3'"),
        (["a.jpg", "-o", "out", "--type", "crop", "--aspect", "0:3"], "such as 4:3. Received: '0:3'"),
        (["a.jpg", "-o", "out", "--type", "crop", "--aspect", "4:0"], "such as 4:3. Received: '4:0'"),
        (["a.jpg", "-o", "out", "--type", "crop", "--aspect", "nan:1"], "such as 4:3. Received: 'nan:1'"),
        (["a.jpg", "-o", "out", "--type", "attention", "--pixel", "1"], "must be X,Y, integers of at least 0"),
        (["a.jpg", "-o", "out", "--type", "binary", "--threshold", "1.5"], "number in 0…1 or 'adaptive'"),
        (["a.jpg", "-o", "out", "--type", "binary", "--threshold", "nan"], "number in 0…1 or 'adaptive'"),
        (["a.jpg", "-o", "out", "--size", "big"], "must be N or HxW"),
        (["a.jpg", "-o", "out", "--size", "100"], "multiple of"),
        (["a.jpg", "-o", "out", "--engine", "litert", "--size", "96"], "64×64, not for 96×96"),
        (["a.jpg", "-o", "out", "--fusion", "max"], "'max' is not one of"),
        (["a.jpg", "-o", "out", "--fusion", "subtract", "--preset", "rcau_lite0"], "network needs groups"),
        (["a.jpg", "-o", "out", "--precision", "int8"], "has no model.int8.tflite"),
        (["a.jpg", "-o", "out", "--type", "attention", "--precision", "int8"], "which has no int8"),
        (["a.jpg", "-o", "out", "--preset", "gone"], "no preset and no folder 'gone'"),
        (["a.jpg", "-o", "-", "--json"], "--json and -o -"),
        (["a.jpg", "-o", "."], "Choose another folder"),
        (["a.jpg", "-o", "a.jpg"], "is the input image itself"),
        (["a.jpg", "b.jpg", "-o", "map.jpg"], "takes one image of one type"),
        (["a.jpg", "-o", "map.tiff"], "outputs are written as .png, .jpg, .jpeg, .webp"),
        (["a.jpg", "-o", "cut.jpg", "--type", "cutout"], "JPEG has no transparency"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_starts_nothing(run, save_photo, tmp_path, monkeypatch, arguments, message):
    save_photo("a.jpg")
    save_photo("b.jpg")
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = run(*arguments)
    assert status == 2
    assert stdout == ""
    assert message in stderr
    assert files_below(tmp_path) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("inputs", ["empty", "gone", "gone/*.jpg"])
def test_the_error_names_an_input_without_images(run, tmp_path, inputs):
    (tmp_path / "empty").mkdir()
    status, _, stderr = run(tmp_path / inputs, "-o", tmp_path / "out")
    assert status == 2
    assert f"1 failed:\n  {tmp_path / inputs}: " in stderr
    assert not (tmp_path / "out").exists()


def test_max_pixels_sets_the_pixel_limit(run, save_photo, tmp_path):
    photo = save_photo("photo.png", (48, 64))
    status, _, stderr = run(photo, "-o", tmp_path / "out", "--max-pixels", "3000")
    assert status == 1
    assert "--max-pixels 3072" in stderr
    assert run(photo, "-o", tmp_path / "out", "--max-pixels", "3072")[0] == 0


@pytest.fixture(autouse=True)
def _pillows_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def test_a_full_disk_stops_the_run_and_leaves_no_partial_file(run, many, tmp_path, monkeypatch):
    write, calls = Path.write_bytes, []

    def until_full(path, data):
        calls.append(path)
        if len(calls) > 10:
            write(path, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", until_full)
    status, _, stderr = run(many, "-o", tmp_path / "out", "--jobs", "2")
    assert status == 1
    assert "the disk is full. Free some space or choose another folder. Stopped after" in stderr
    assert len(files_below(tmp_path / "out")) == 10
    assert "54 images; 10 files were written." in stderr
    assert len(calls) < 20
    for name in files_below(tmp_path / "out"):
        opened(tmp_path / "out" / name)


def test_a_damaged_file_causes_no_python_warning(save_photo, tiny_preset, tmp_path):
    photo = save_photo("photo.tiff")
    data = bytearray(photo.read_bytes())
    start = int.from_bytes(data[4:8], "little")
    data[start + 2 + 8 * 12 + 4 : start + 2 + 8 * 12 + 8] = b"\xff\xff\xff\x0f"  # the length of a tag
    photo.write_bytes(data)
    done = subprocess.run(
        command("predict", photo, "-o", tmp_path / "out", "--preset", tiny_preset), capture_output=True, text=True
    )
    assert "Warning" not in done.stderr


def test_an_output_folder_that_cannot_be_created_is_reported(run, save_photo, tmp_path):
    (tmp_path / "file").touch()
    status, _, stderr = run(save_photo("photo.jpg"), "-o", tmp_path / "file" / "out")
    assert status == 1
    assert str(tmp_path / "file" / "out") in stderr
    assert "Traceback" not in stderr


def test_too_little_memory_for_one_image_does_not_stop_the_others(run, save_photo, tmp_path, monkeypatch):
    folder = save_photo("in/a.jpg").parent
    save_photo("in/b.jpg")
    read = outputs.read

    def hungry(source, **options):
        if str(source).endswith("a.jpg"):
            raise MemoryError
        return read(source, **options)

    monkeypatch.setattr(outputs, "read", hungry)
    status, _, stderr = run(folder, "-o", tmp_path / "out")
    assert status == 1
    assert "a.jpg: not enough memory" in stderr
    assert files_below(tmp_path / "out") == ["b.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_complete_files_and_exits_with_130(tiny_preset, save_photo, tmp_path):
    data = save_photo("large.jpg", (1500, 2000), quality=90).read_bytes()
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:03}.jpg").write_bytes(data)
    # background jobs of a shell and their children ignore SIGINT by default
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command("predict", folder, "-o", out, "--preset", tiny_preset, "--type", "mask,cutout"),
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, previous)
    with process:
        try:
            until = time.monotonic() + 60
            while len(files_below(out)) < 3 and time.monotonic() < until:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Interrupted after" in stderr
    assert "Traceback" not in stderr
    written = files_below(out)
    assert 3 <= len(written) < 400
    for name in written:
        assert not Path(name).name.startswith(".")
        opened(out / name)


def test_three_shards_together_equal_one_run(run, many, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(many, "-o", whole)[0] == 1  # four images are bad
    written = [set(), set(), set()]
    # last shard first: the files that another shard has written change neither the names nor the split
    for index in (2, 0, 1):
        before = set(files_below(parts))
        _, stdout, stderr = run(many, "-o", parts, "--shard", f"{index}/3", "--json")
        assert stdout.count("\n") == 18  # a third of 54
        assert "of 18 images" in stderr
        written[index] = set(files_below(parts)) - before
    assert len(written[0]) + len(written[1]) + len(written[2]) == 50
    assert files_below(parts) == files_below(whole)
    for name in files_below(whole):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_a_shard_without_images_is_not_an_error(run, save_photo, tmp_path):
    photo = save_photo("photo.jpg")
    status, _, stderr = run(photo, "-o", tmp_path / "out", "--shard", "1/2")
    assert (status, stderr) == (0, "Nothing to do: 1 image, none of them in shard 1/2.\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", ["3/3", "1", "a/2", "-1/2", "1/2/3", "0/0", "²/3"])
def test_an_invalid_shard_is_reported(run, save_photo, tmp_path, shard):
    status, _, stderr = run(save_photo("photo.jpg"), "-o", tmp_path / "out", "--shard", shard)
    assert status == 2
    assert f"must be I/N with 0 ≤ I < N: 0/3, 1/3 and 2/3 are the three parts. Received: '{shard}'" in stderr


def test_failures_before_an_interruption_are_printed(run, many, tmp_path, monkeypatch):
    original = outputs.OutputWriter.save

    def interrupted(self, paths, *arguments):
        if "40.png" in str(paths):
            raise KeyboardInterrupt
        original(self, paths, *arguments)

    monkeypatch.setattr(outputs.OutputWriter, "save", interrupted)
    (many / "00.jpg").write_bytes(b"no image")
    status, _, stderr = run(many, "-o", tmp_path / "out")
    assert status == 130
    assert "Interrupted after" in stderr
    assert "1 failed:\n" in stderr
    assert "00.jpg: not an image of a known format" in stderr


def test_a_missing_file_alone_starts_nothing(run, tmp_path):
    status, _, stderr = run(tmp_path / "gone.jpg", "-o", tmp_path / "out")
    assert status == 2
    assert "gone.jpg: no such file" in stderr


def test_an_image_for_which_opencv_has_no_memory_does_not_stop_the_others(run, many, tmp_path, monkeypatch):
    original = outputs.OutputWriter.save

    def fail(self, paths, *arguments):
        if "40.png" in str(paths):
            cv2.resize(np.zeros((1, 1), np.uint8), (2**20, 2**20))  # a terabyte
        original(self, paths, *arguments)

    monkeypatch.setattr(outputs.OutputWriter, "save", fail)
    status, _, stderr = run(many, "-o", tmp_path / "out")
    assert status == 1
    assert "40.jpg: not enough memory for this image" in stderr
    assert "49 of 54 images" in stderr


def test_webp_and_jpeg_refuse_images_that_are_too_wide(run, save_photo, tmp_path):
    photo = save_photo("wide.png", (2, 20_000))
    status, _, stderr = run(photo, "-o", tmp_path / "wide.webp")
    assert status == 1
    assert "wide.webp: 20000 × 2 pixels are too many for WEBP, which has at most 16383 per side" in stderr
