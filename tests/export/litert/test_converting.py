import json
import shutil
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet import presets
from keras_recnet.errors import MissingExtraError, PresetError
from keras_recnet.export import ConversionError, add_to_preset, convert, exporting, read_metadata


@pytest.fixture(scope="module")
def interpreter(tiny_preset):
    return Interpreter(str(tiny_preset / "model.tflite"))


def test_the_file_has_one_signature_with_names_and_a_fixed_size(interpreter):
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["saliency"]}}
    runner = interpreter.get_signature_runner("serving_default")
    image, saliency = runner.get_input_details()["image"], runner.get_output_details()["saliency"]
    assert (image["shape"].tolist(), image["dtype"]) == ([1, 64, 64, 3], np.float32)
    assert (saliency["shape"].tolist(), saliency["dtype"]) == ([1, 64, 64, 1], np.float32)


def test_weights_are_float16_and_the_computation_is_float32(interpreter):
    operations = interpreter._get_ops_details()
    of_type = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    for operation in operations:
        if operation["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            assert {of_type[index] for index in (*operation["inputs"], *operation["outputs"])} == {np.float32}
    stored = [of_type[index] for op in operations if op["op_name"] == "DEQUANTIZE" for index in op["inputs"]]
    assert len(stored) > 50
    assert set(stored) == {np.float16}


def test_the_file_needs_no_flex_or_custom_operations(interpreter):
    names = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "CONV_2D" in names
    assert not [name for name in names if name.startswith("Flex") or name == "CUSTOM"]


def test_outputs_equal_those_of_keras(interpreter, tiny_model, photographs):
    from keras_recnet.imaging.reading import read

    inference = tiny_model.to_inference()
    runner = interpreter.get_signature_runner("serving_default")
    for photo in photographs[:3]:
        image = read(photo, fit=(64, 64)).rgb[None].astype("float32")
        expected = keras.ops.convert_to_numpy(inference(image, training=False))
        difference = np.abs(runner(image=image)["saliency"] - expected)
        assert difference.mean() < 2e-3
        assert expected.std() > 0.01


def test_converts_a_model_to_float32_weights_and_uint8_images(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = convert(tiny_model, "model.tflite", precision="float32", input_dtype="uint8")
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype="uint8")
    expected = keras.ops.convert_to_numpy(tiny_model.to_inference()(image.astype("float32"), training=False))
    saliency = Interpreter(str(out)).get_signature_runner("serving_default")(image=image)["saliency"]
    np.testing.assert_allclose(saliency, expected, atol=1e-4)
    assert read_metadata(out)["signatures"]["serving_default"]["inputs"]["image"]["dtype"] == "uint8"
    assert out.stat().st_size > 10_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]


def test_the_preset_lists_the_file_and_keeps_other_entries(tiny_preset):
    preset = presets.find(tiny_preset)
    assert preset.file("model.tflite").stat().st_size < 8_000_000
    assert preset.has("model.weights.h5")
    assert preset.config["fusion"] == "average"
    assert preset.config["image_size"] == [64, 64]


def test_a_failed_conversion_is_reported_and_keeps_the_old_file(tiny_preset, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_preset, tmp_path / "copy")
    before = (folder / "model.tflite").read_bytes()
    # replaces the converter, which is slow to start, with a process that fails immediately
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho the converter crashed >&2\nexit 139\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConversionError, match=r"status 139\):\nthe converter crashed"):
        add_to_preset(folder)
    assert (folder / "model.tflite").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.tflite", "model.weights.h5"]


def test_reports_wrong_arguments_and_missing_packages(tiny_preset, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="Received: precision='int4'"):
        convert(tiny_preset, tmp_path / "model.tflite", precision="int4")
    with pytest.raises(ValueError, match="Received: input_dtype='int8'"):
        convert(tiny_preset, tmp_path / "model.tflite", input_dtype="int8")
    with pytest.raises(PresetError, match="no preset"):
        convert(tmp_path / "gone", tmp_path / "model.tflite")
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[tensorflow\]"'):
        convert(tiny_preset, tmp_path / "model.tflite")


def test_a_damaged_preset_is_not_converted(tiny_preset, tmp_path):
    folder = shutil.copytree(tiny_preset, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["files"]["model.weights.h5"]["sha256"] = "0" * 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError, match="wrong checksum"):
        convert(folder, tmp_path / "model.tflite")
