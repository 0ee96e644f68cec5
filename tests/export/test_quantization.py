import functools
import json
import shutil

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet import presets
from keras_recnet.errors import ConfigError, MissingExtraError
from keras_recnet.export import (
    add_to_preset,
    convert,
    export_model,
    exporting,
    gpu_incompatible,
    quantization,
    read_metadata,
)
from keras_recnet.export.litert import converting, flatbuffer, signatures
from keras_recnet.imaging.reading import read

pytest.importorskip("ai_edge_quantizer", reason="int8 needs ai-edge-quantizer")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory, photographs):
    """A folder with the example photos and a damaged file."""
    folder = tmp_path_factory.mktemp("calibration")
    for photo in photographs:
        shutil.copy(photo, folder)
    (folder / "damaged.jpg").write_bytes(photographs[0].read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def exported(tiny_preset, calibration, tmp_path_factory):
    """The folder of an int8 export of the tiny RecNet, and the messages of the export."""
    out, messages = tmp_path_factory.mktemp("int8") / "out", []
    export_model(tiny_preset, out, format="litert", precision="int8", calibration=calibration, log=messages.append)
    return out, messages


def types_of_operations(file):
    """Yield the name of each operation and the type of its result, as the interpreter sees them."""
    interpreter = Interpreter(str(file))
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    for operation in interpreter._get_ops_details():
        yield operation["op_name"], types.get(operation["outputs"][0])


def test_convolutions_compute_in_int8_and_attention_in_float32(exported):
    types = list(types_of_operations(exported[0] / "model.tflite"))
    convolutions = [dtype for name, dtype in types if name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    assert convolutions.count(np.int8) > 100
    assert convolutions.count(np.float32) == 4  # the stem, the first depthwise convolution and the logits
    attention = [dtype for name, dtype in types if name in ("BATCH_MATMUL", "SOFTMAX", "LOGISTIC")]
    assert attention == [np.float32] * 7


def test_the_description_lists_what_is_int8(exported, photographs):
    out, messages = exported
    description = json.loads((out / "export.json").read_text())
    types = list(types_of_operations(out / "model.tflite"))
    counted = description["operations"]["serving_default"]
    for operation in ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "CONCATENATION", "RESIZE_BILINEAR"):
        assert counted["int8"][operation] == types.count((operation, np.int8))
    assert counted["float32"]["BATCH_MATMUL"] == 4
    assert description["precision"] == "int8"
    assert description["gpu_incompatible"] == []
    (row,) = description["verification"]["differences"]
    assert 0 < row["mean"] < row["tolerance"] == 0.02
    assert description["calibration"]["images"] == len(photographs)
    assert f"with {len(photographs)} images; 100 would be better. 1 could not be read, such as: " in messages[1]
    assert "damaged.jpg" in description["calibration"]["unreadable"][0]


def test_maps_are_close_to_those_of_keras(exported, tiny_model, photographs):
    runner = Interpreter(str(exported[0] / "model.tflite")).get_signature_runner("serving_default")
    for photo in photographs[:3]:
        image = read(photo, fit=(64, 64)).rgb[None].astype("float32")
        expected = keras.ops.convert_to_numpy(tiny_model.to_inference()(image, training=False))
        difference = np.abs(runner(image=image)["saliency"] - expected)
        assert 0 < difference.mean() < 0.02
        assert expected.std() > 0.01


def test_the_file_is_small_and_describes_itself(exported, tiny_preset):
    file = exported[0] / "model.tflite"
    assert file.stat().st_size < 0.65 * (tiny_preset / "model.tflite").stat().st_size
    description = read_metadata(file)
    assert description["calibration"]["seed"] == 0
    assert description["signatures"]["serving_default"]["inputs"]["image"]["dtype"] == "float32"
    model = flatbuffer.schema.ModelT.InitFromPackedBuf(file.read_bytes())
    assert all(buffer.offset == 0 for buffer in model.buffers)  # older runtimes only read constants inside the objects


def test_a_preset_exports_its_own_int8_file_without_calibration(exported, tiny_preset, calibration, tmp_path):
    folder = shutil.copytree(tiny_preset, tmp_path / "preset")
    file = folder / presets.LITERT_INT8
    shutil.copy(exported[0] / "model.tflite", file)
    presets.write_config(folder, presets.find(folder).config, ["model.tflite", "model.weights.h5", file.name])
    out = tmp_path / "out"
    export_model(folder, out, format="litert", precision="int8", input_dtype="uint8")
    assert read_metadata(out / "model.tflite")["calibration"] == read_metadata(file)["calibration"]
    runner = Interpreter(str(out / "model.tflite")).get_signature_runner("serving_default")
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype="uint8")
    expected = Interpreter(str(file)).get_signature_runner("serving_default")(image=image.astype("float32"))
    np.testing.assert_array_equal(runner(image=image)["saliency"], expected["saliency"])
    for arguments in ({"size": 96}, {"signatures": ["serving_default"]}):
        with pytest.raises(ConfigError, match=r"--calibration FOLDER.*all signatures and its own image size"):
            export_model(folder, tmp_path / "other", format="litert", precision="int8", **arguments)


def test_add_to_preset_writes_the_int8_file_next_to_the_other(tiny_preset, tmp_path, monkeypatch, calibration):
    def convert(source, artifact, **options):
        artifact.write_text(f"{options['precision']} {options['calibration']}")

    monkeypatch.setattr(exporting, "write_and_verify", convert)
    folder = shutil.copytree(tiny_preset, tmp_path / "preset")
    file = add_to_preset(folder, precision="int8", calibration=calibration)
    assert file == folder / "model.int8.tflite"
    assert presets.find(folder).file("model.int8.tflite").read_text() == f"int8 {calibration}"
    assert presets.find(folder).file("model.tflite").read_bytes() == (tiny_preset / "model.tflite").read_bytes()


def test_wrong_calibrations_are_refused(tiny_preset, tmp_path, calibration, monkeypatch):
    int8 = {"format": "litert", "precision": "int8"}
    with pytest.raises(
        ConfigError, match=r"--calibration FOLDER, 100 photos are used\): this network has no int8 file"
    ):
        export_model(tiny_preset, tmp_path / "out", **int8)
    with pytest.raises(ConfigError, match="this network has no int8 file"):
        convert(tiny_preset, tmp_path / "model.tflite", precision="int8")
    with pytest.raises(ConfigError, match="gone: no such folder"):
        export_model(tiny_preset, tmp_path / "out", **int8, calibration=tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"`calibration` is for int8\. Received: precision='float16'"):
        export_model(tiny_preset, tmp_path / "out", format="litert", calibration=calibration)
    found = exporting.importlib.util.find_spec
    missing = lambda name: None if name == "ai_edge_quantizer" else found(name)  # noqa: E731
    monkeypatch.setattr(exporting.importlib.util, "find_spec", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[int8\]"'):
        export_model(tiny_preset, tmp_path / "out", **int8, calibration=calibration)
    assert not (tmp_path / "out").exists()


def test_calibration_images_are_chosen_by_a_seed_and_unreadable_ones_are_replaced(save_photo, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "CALIBRATION_IMAGES", 4)
    for index in range(6):
        save_photo(f"photos/{index % 2}/{index}.png", size=(10, 10 + index))
    (tmp_path / "photos" / "damaged.png").write_bytes(b"no image")
    images, errors = quantization.read_images(tmp_path / "photos", (8, 12))
    assert images.shape == (4, 8, 12, 3)
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4  # four different photos
    again, _ = quantization.read_images(tmp_path / "photos", (8, 12))
    np.testing.assert_array_equal(again, images)
    monkeypatch.setattr(quantization, "CALIBRATION_IMAGES", 100)
    images, errors = quantization.read_images(tmp_path / "photos", (8, 12))
    assert len(images) == 6
    assert len(errors) == 1
    assert "damaged.png" in errors[0]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no images for the calibration"):
        quantization.read_images(tmp_path, (8, 8))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"1 files cannot be read, such as: .*damaged\.png"):
        quantization.read_images(tmp_path, (8, 8))


def test_a_dead_channel_keeps_its_bias():
    """A channel with an all-zero kernel has the value of its bias: 3, -2, or 6 after ReLU6."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, name="first", bias_initializer="ones")(image)
    first = keras.layers.Conv2D(4, 1, name="second")
    second = keras.layers.DepthwiseConv2D(3, name="third")
    x = second(keras.layers.ReLU(6.0)(first(x)))
    model = keras.Model({"image": image}, {"saliency": x})
    kernel, bias = np.full((1, 1, 8, 4), 1e-3, "float32"), np.array([0.5, 3, -2, 11], "float32")
    kernel[..., 1:] = 0
    first.set_weights([kernel, bias])
    kernel, bias = np.full((3, 3, 4, 1), 1 / 9, "float32"), np.array([0, 5, 0, 0], "float32")
    kernel[:, :, 1] = 0
    second.set_weights([kernel, bias])
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype="uint8")
    quantize = functools.partial(quantization.quantize, images=images)
    content = converting.convert_parts({"serving_default": model}, "float32", quantize=quantize)
    runner = Interpreter(model_content=content).get_signature_runner("serving_default")
    channels = runner(image=images[:1].astype("float32"))["saliency"].mean((0, 1, 2))
    np.testing.assert_allclose(channels[1:], [5, 0, 6], atol=0.05)


def test_an_int8_group_network_keeps_its_state_in_float32(make_group_model, calibration, tmp_path):
    file = convert(make_group_model("rcau"), tmp_path / "model.tflite", precision="int8", calibration=calibration)
    counts = flatbuffer.count_operations(file.read_bytes())
    assert counts.keys() == {signatures.ENCODE, signatures.STEP, signatures.DECODE}
    assert counts["encode"]["int8"]["CONV_2D"] > 30
    assert counts["decode"]["int8"]["CONV_2D"] > 1
    assert "int8" not in counts["step"]
    assert gpu_incompatible(file) == []
