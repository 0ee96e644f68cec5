import io
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageSequence

import keras_recnet
from keras_recnet import presets
from keras_recnet.errors import ImageError, MissingExtraError, PresetError
from keras_recnet.imaging.reading import read
from keras_recnet.inference.engines import LiteRTEngine
from keras_recnet.inference.group_predictor import GroupPredictor
from keras_recnet.inference.predictor import Predictor
from keras_recnet.parallel import ordered_map


@pytest.fixture(scope="module")
def predictor(tiny_preset):
    return Predictor(tiny_preset)


@pytest.fixture(scope="module")
def keras_predictor(tiny_preset):
    return Predictor(tiny_preset, engine="keras")


@pytest.fixture
def copy(tiny_preset, tmp_path):
    return shutil.copytree(tiny_preset, tmp_path / "copy")


def test_a_map_has_the_size_of_its_image(predictor, save_photo):
    saliency_map = predictor(save_photo("photo.jpg", (90, 130)))
    assert saliency_map.shape == (90, 130)
    assert saliency_map.dtype == np.float32
    assert saliency_map.min() >= 0.0
    assert saliency_map.max() <= 1.0
    assert saliency_map.std() > 0.01


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (64, 64), (1200, 900)])
def test_images_may_have_any_size(predictor, size):
    assert predictor(np.zeros((*size, 3), np.uint8)).shape == size


def test_paths_bytes_images_and_arrays_give_the_same_map(predictor, save_photo):
    path = save_photo("photo.png")
    expected = predictor(path)
    image = Image.open(path)
    for source in (str(path), path.read_bytes(), image, np.asarray(image), np.asarray(image) / np.float32(255)):
        np.testing.assert_array_equal(predictor(source), expected)


def test_exif_rotation_is_applied(predictor, save_photo):
    upright = Image.open(save_photo("photo.png", (48, 64)))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    assert predictor(file.getvalue()).shape == (48, 64)
    np.testing.assert_allclose(predictor(file.getvalue()), predictor(upright), atol=0.02)


def test_both_engines_agree(predictor, keras_predictor, photographs):
    for photo in photographs[:3]:
        difference = np.abs(predictor(photo) - keras_predictor(photo))
        assert difference.mean() < 2e-3
        assert difference.max() < 0.05


def test_str_names_the_engine_and_the_device(predictor, keras_predictor):
    assert str(predictor).startswith("tiny, litert 64×64, CPU, ")
    assert str(keras_predictor).startswith("tiny, keras 64×64, ")
    assert predictor.engine_note is None
    assert keras_predictor.engine_note is None
    assert "1 thread" in str(Predictor(predictor.preset.folder, threads=1))


def test_int8_maps_are_close_to_those_of_float16(photographs):
    predictor, exact = Predictor(precision="int8"), Predictor()
    assert str(predictor).startswith("recnet_lite0, litert int8 320×320, CPU, ")
    assert (predictor.precision, exact.precision) == ("int8", "float16")
    for photo in photographs[:3]:
        difference = np.abs(predictor(photo) - exact(photo))
        assert 0 < difference.mean() < 0.02


def test_int8_needs_its_own_file_and_the_litert_engine(tiny_preset):
    with pytest.raises(PresetError, match=r"int8 cannot be used: the preset 'tiny' has no model\.int8\.tflite"):
        Predictor(tiny_preset, precision="int8")
    with pytest.raises(PresetError, match="int8 cannot be used: it needs the LiteRT engine"):
        Predictor(engine="keras", precision="int8")
    with pytest.raises(PresetError, match="320×320, not for 96×96"):
        Predictor(size=96, precision="int8")
    with pytest.raises(ValueError, match=r"one of \('float16', 'int8'\)\. Received: precision='float32'"):
        Predictor(precision="float32")


def test_a_different_size_selects_the_keras_engine(tiny_preset, save_photo):
    predictor = Predictor(tiny_preset, size=(96, 128))
    assert predictor.engine.name == "keras"
    assert predictor.engine.size == (96, 128)
    assert "64×64, not for 96×128" in predictor.engine_note
    assert predictor(save_photo("photo.png", (30, 40))).shape == (30, 40)
    with pytest.raises(PresetError, match=r"64×64, not for 96×96. Use the Keras engine"):
        Predictor(tiny_preset, engine="litert", size=96)
    assert Predictor(tiny_preset, size=64).engine.name == "litert"


def test_a_different_fusion_selects_the_keras_engine(tiny_preset, keras_predictor, save_photo):
    photo = save_photo("photo.png")
    foreground = Predictor(tiny_preset, fusion="foreground")(photo)
    inverse_background = Predictor(tiny_preset, fusion="inverse_background")(photo)
    np.testing.assert_allclose((foreground + inverse_background) / 2, keras_predictor(photo), atol=1e-5)


@pytest.mark.parametrize("engine", ["litert", "keras"])
def test_flip_averages_with_the_map_of_the_mirrored_image(tiny_preset, predictor, engine, save_photo):
    photo = np.asarray(
        Image.open(save_photo("photo.png", (64, 64)))
    )  # the input size of the network, so nothing is resized
    expected = (predictor(photo) + predictor(photo[:, ::-1])[:, ::-1]) / 2
    flipping = Predictor(tiny_preset, engine=engine, flip=True)
    np.testing.assert_allclose(flipping(photo), expected, atol=1e-6 if engine == "litert" else 0.05)
    np.testing.assert_allclose(flipping(photo[:, ::-1]), flipping(photo)[:, ::-1], atol=1e-6)
    assert np.abs(predictor(photo) - expected).max() > 1e-3
    assert "64×64 and mirrored" in str(flipping)


def test_a_preset_without_a_litert_file_runs_on_keras(tiny_model, tmp_path, save_photo):
    tiny_model.save_to_preset(tmp_path / "bare")
    predictor = Predictor(tmp_path / "bare")
    assert predictor.engine.name == "keras"
    assert "has no model.tflite" in predictor.engine_note
    assert predictor(save_photo("photo.png")).shape == (48, 64)


def test_invalid_presets_are_refused(copy, tmp_path):
    with pytest.raises(PresetError, match="no preset and no folder"):
        Predictor(tmp_path / "gone")
    with pytest.raises(PresetError, match=r"must be a multiple of"):
        Predictor(copy, size=100)
    with pytest.raises(PresetError, match="maximum"):
        Predictor(copy, fusion="maximum")
    file = copy / "model.tflite"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(PresetError, match=r"model\.tflite: wrong checksum"):
        Predictor(copy)


def test_an_invalid_litert_file_is_refused_without_a_crash(copy):
    preset = presets.find(copy)
    (copy / "model.tflite").write_bytes(b"no network" * 100)
    presets.write_config(copy, preset.config, list(preset.config["files"]))
    with pytest.raises(PresetError, match=r"model\.tflite: not a LiteRT file"):
        Predictor(copy)


def test_missing_packages_are_reported(tiny_preset, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match="pip install ai-edge-litert"):
        Predictor(tiny_preset)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[tensorflow\]"'):
        Predictor(tiny_preset, engine="keras")


@pytest.mark.parametrize("arguments", [{"engine": "onnx"}])
def test_the_error_contains_the_value_of_an_invalid_argument(tiny_preset, predictor, arguments):
    with pytest.raises(ValueError, match="Received: engine='onnx'"):
        Predictor(tiny_preset, **arguments)
    with pytest.raises(ValueError, match="Received: errors='ignore'"):
        predictor.map([], errors="ignore")


def test_map_keeps_the_order_and_equals_single_calls(predictor, save_photo):
    photos = [save_photo(f"{side}.png", (side, 2 * side)) for side in (40, 10, 90, 20, 70, 30, 50)]
    for jobs in (1, 3):
        maps = list(predictor.map(photos, jobs=jobs))
        assert len(maps) == len(photos)
        for photo, saliency_map in zip(photos, maps, strict=True):
            np.testing.assert_array_equal(saliency_map, predictor(photo))


def test_map_raises_or_returns_errors_in_order(predictor, save_photo, tmp_path):
    good = save_photo("good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"text")
    maps = predictor.map([good, bad, good])
    assert next(maps).shape == (48, 64)
    with pytest.raises(ImageError, match=r"bad\.png"):
        next(maps)
    first, second, third = predictor.map([good, bad, good], errors="return")
    assert isinstance(second, ImageError)
    np.testing.assert_array_equal(first, third)


def test_map_reads_its_input_lazily(predictor):
    taken = itertools.count()
    arrays = (np.full((8, 8, 3), next(taken) % 256, np.uint8) for _ in itertools.count())
    maps = predictor.map(arrays, jobs=2)
    for _ in range(10):
        next(maps)
    maps.close()
    assert next(taken) <= 10 + 2 * 2 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("keras_recnet")]


@pytest.mark.parametrize("options", [{}, {"threads": 1}], ids=["all cores", "one thread"])
def test_threads_share_one_predictor(tiny_preset, save_photo, options):
    predictor = Predictor(tiny_preset, **options)
    photos = [save_photo(f"{side}.png", (side, side)) for side in range(20, 36)]
    expected = [predictor(photo) for photo in photos]
    results = {}

    def work(start):
        for index in range(start, start + len(photos)):
            results[start, index] = predictor(photos[index % len(photos)])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 * len(photos)
    for (_, index), saliency_map in results.items():
        np.testing.assert_array_equal(saliency_map, expected[index % len(photos)])


def test_the_number_of_interpreters_is_limited_by_the_cores(tiny_preset, monkeypatch):
    monkeypatch.setattr("keras_recnet.inference.engines.cores", lambda: 4)
    file = presets.find(tiny_preset).file(presets.LITERT)
    for threads, at_once in ((1, 4), (2, 2), (4, 1), (8, 1)):
        engine = LiteRTEngine(file, threads=threads)
        array = np.zeros((*engine.size, 3), np.uint8)
        list(ordered_map(engine, [array] * 60, workers=6))
        assert 1 <= len(engine._interpreters.idle) <= at_once


def test_map_equals_single_calls_on_photographs(predictor, photographs):
    for saliency_map, photo in zip(predictor.map(photographs), photographs, strict=True):
        np.testing.assert_allclose(saliency_map, predictor(photo), atol=1e-6)


def frames(kind):
    """Return an iterator that yields the same object for every frame, and the frames as separate arrays."""
    arrays = [np.full((40, 60, 3), level, np.uint8) for level in (0, 60, 120, 180, 240)]
    for level, array in enumerate(arrays):
        array[10:30, 10 * level : 10 * level + 20] = 255 - array[0, 0]

    def reused():
        if kind == "array":
            frame = np.empty_like(arrays[0])
            for array in arrays:
                frame[:] = array
                yield frame
        elif kind == "Pillow image":
            frame = Image.new("RGB", (60, 40))
            for array in arrays:
                frame.paste(Image.fromarray(array))
                yield frame
        elif kind == "bytearray":
            frame = bytearray()
            for array in arrays:
                file = io.BytesIO()
                Image.fromarray(array).save(file, "BMP")
                frame[:] = file.getvalue()
                yield frame
        else:
            file = io.BytesIO()
            first, *others = map(Image.fromarray, arrays)
            first.save(file, "TIFF", save_all=True, append_images=others)
            yield from ImageSequence.Iterator(Image.open(file))

    return reused(), arrays


@pytest.mark.parametrize("kind", ["array", "Pillow image", "bytearray", "Pillow sequence"])
def test_an_iterator_may_reuse_one_object_for_all_frames(predictor, tiny_group_preset, kind):
    reused, arrays = frames(kind)
    for saliency_map, array in zip(predictor.map(reused, jobs=2), arrays, strict=True):
        np.testing.assert_array_equal(saliency_map, predictor(array))
    groups = GroupPredictor(tiny_group_preset)
    reused, arrays = frames(kind)
    for saliency_map, expected in zip(groups(reused), groups(arrays), strict=True):
        np.testing.assert_array_equal(saliency_map, expected)


def test_ordered_map_drops_waiting_items_after_an_error():
    done = []

    def work(item):
        time.sleep(0.01)
        done.append(item)
        if item == 2:
            raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        list(ordered_map(work, range(1000), workers=2))
    assert len(done) < 12


def test_attention_needs_the_keras_engine(predictor, keras_predictor, save_photo):
    decoded = read(save_photo("photo.png", (48, 96)))
    weights = keras_predictor.attention(decoded, (47, 95))
    assert weights.shape == (8, 8)
    expected = keras_predictor.engine.model.attention_map(
        read(save_photo("p.png", (48, 96)), fit=(64, 64)).rgb, (62, 63)
    )
    np.testing.assert_allclose(weights, expected, rtol=1e-4)
    with pytest.raises(PresetError, match="needs the Keras engine"):
        predictor.attention(decoded, (0, 0))


def test_images_above_the_pixel_limit_are_refused(tiny_preset, save_photo):
    with pytest.raises(ImageError, match="64 × 48 pixels are more than the limit of 3,000"):
        Predictor(tiny_preset, max_pixels=3000)(save_photo("photo.png", (48, 64)))


def test_the_shipped_preset_finds_the_cat(photographs):
    (cat,) = [photo for photo in photographs if photo.stem == "cat"]
    saliency_map = keras_recnet.saliency(cat)
    assert saliency_map.shape == np.asarray(Image.open(cat)).shape[:2]
    assert keras_recnet.saliency(cat.read_bytes()).shape == saliency_map.shape
    height, width = saliency_map.shape
    middle = saliency_map[height // 4 : -height // 4, width // 4 : -width // 4]
    assert middle.mean() > 0.7
    assert saliency_map[:, -width // 20 :].mean() < 0.3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_litert_prediction_needs_no_tensorflow_and_little_memory(tiny_preset, save_photo):
    code = (
        "import re, sys, keras_recnet\n"
        "predictor = keras_recnet.Predictor(sys.argv[1])\n"
        "assert predictor(sys.argv[2]).shape == (48, 64)\n"
        "assert len(list(predictor.map([sys.argv[2]] * 3))) == 3\n"
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'matplotlib', 'scipy'} & set(sys.modules)))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny_preset, save_photo("photo.jpg")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    loaded, kilobytes = done.stdout.split("\n")[:2]
    assert loaded == "[]"
    assert int(kilobytes) < 400_000
