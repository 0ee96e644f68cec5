import functools
import json
import shutil

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

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
from keras_recnet.inference.group_engines import KerasGroupEngine, LiteRTGroupEngine
from keras_recnet.layers.group_normalization import ChannelGroupNormalization

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
    (images,), errors = quantization.read_images(tmp_path / "photos", (8, 12))
    assert images.shape == (4, 8, 12, 3)
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4  # four different photos
    again, _ = quantization.read_images(tmp_path / "photos", (8, 12))
    np.testing.assert_array_equal(again, [images])
    monkeypatch.setattr(quantization, "CALIBRATION_IMAGES", 100)
    (images,), errors = quantization.read_images(tmp_path / "photos", (8, 12))
    assert len(images) == 6
    assert len(errors) == 1
    assert "damaged.png" in errors[0]


def test_calibration_groups_are_subfolders(tmp_path, monkeypatch):
    colors = {"loose": 10, "a/deep": 50, "b": 90}
    for folder, count in (("loose", 3), ("a/deep", 5), ("b", 2)):
        for index in range(count):
            path = tmp_path / ("" if folder == "loose" else folder) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (colors[folder], index, 0)).save(path)
    (tmp_path / "b" / "damaged.png").write_bytes(b"no image")
    monkeypatch.setattr(quantization, "GROUP_SIZE", 3)
    groups, errors = quantization.read_images(tmp_path, (4, 4), grouped=True)
    folders = [np.unique(group[..., 0]).tolist() for group in groups]
    assert sorted((*folder, len(group)) for folder, group in zip(folders, groups, strict=True)) == [
        (10, 3),
        (50, 2),
        (50, 3),
        (90, 2),
    ]
    assert sorted(folders[:3]) == [[10], [50], [90]]  # a group of each folder, then the other ones
    assert len(errors) == 1
    monkeypatch.setattr(quantization, "CALIBRATION_IMAGES", 4)
    groups, _ = quantization.read_images(tmp_path, (4, 4), grouped=True)
    assert sum(map(len, groups)) == 4
    assert len(groups) == 2


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no images for the calibration"):
        quantization.read_images(tmp_path, (8, 8))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"1 files cannot be read, such as: .*damaged\.png"):
        quantization.read_images(tmp_path, (8, 8))


def quantized(model, images):
    """Return a function that runs the int8 file of a network, which is calibrated with the images."""
    quantize = functools.partial(quantization.quantize, groups=[images])
    content = converting.convert_parts({"serving_default": model}, "float32", quantize=quantize)
    return Interpreter(model_content=content).get_signature_runner("serving_default")


@pytest.mark.parametrize("fusion", ["foreground", "inverse_background"])
def test_a_map_of_a_single_branch_can_be_quantized(fusion, tiny_model, photographs):
    images = np.stack([read(photo, fit=tiny_model.image_size).rgb for photo in photographs])
    inference = tiny_model.to_inference(fusion)
    network = keras.Model({"image": inference.input}, {"saliency": inference.output})
    runner, inputs = quantized(network, images), images[:1].astype("float32")
    expected = keras.ops.convert_to_numpy(inference(inputs))
    assert 0 < np.abs(runner(image=inputs)["saliency"] - expected).mean() < 0.02


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
    runner = quantized(model, images)
    channels = runner(image=images[:1].astype("float32"))["saliency"].mean((0, 1, 2))
    np.testing.assert_allclose(channels[1:], [5, 0, 6], atol=0.05)


def test_normalization_is_exact_if_the_variances_of_the_groups_differ():
    """The first four channels vary 100 times as much as the others: variances 1 and 1e-4 times a constant."""
    image = keras.Input((8, 8, 3), name="image")
    convolution = keras.layers.Conv2D(8, 1, name="first")
    x = ChannelGroupNormalization(2, name="gn")(convolution(image))
    model = keras.Model({"image": image}, {"saliency": x})
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 8))
    kernel[..., 4:] /= 100
    convolution.set_weights([kernel, np.zeros(8)])
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), dtype="uint8")
    received = quantized(model, images)(image=images[:1].astype("float32"))["saliency"]
    for channels in (slice(4), slice(4, 8)):
        values = images[:1].astype("float64") @ kernel[0, 0][:, channels]
        expected = (values - values.mean()) / np.sqrt(values.var() + 1e-3)
        # the step of int8 is that of the first channels, so the others only have few values
        np.testing.assert_allclose(received[..., channels].std(), expected.std(), rtol=0.1)


@pytest.mark.parametrize("is_used", [False, True], ids=["only an output", "an output that the network uses"])
def test_an_int8_output_is_float32_in_its_signature(is_used):
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="first")(image)
    outputs = {"features": x, **({"maximum": keras.ops.exp(-x)} if is_used else {})}
    model = keras.Model({"image": image}, outputs)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype="uint8")
    runner, inputs = quantized(model, images), images[:1].astype("float32")
    assert {details["dtype"] for details in runner.get_output_details().values()} == {np.float32}
    expected = keras.ops.convert_to_numpy(model({"image": inputs})["features"])
    difference = np.abs(runner(image=inputs)["features"] - expected)
    assert 0 < difference.mean() < 0.02 * np.abs(expected).mean()


@pytest.fixture(scope="module")
def group_photos(photographs, tmp_path_factory):
    """A folder of two groups of example photos."""
    folder = tmp_path_factory.mktemp("groups")
    for index, photo in enumerate(photographs):
        (folder / str(index % 2)).mkdir(exist_ok=True)
        shutil.copy(photo, folder / str(index % 2))
    return folder


@pytest.fixture(scope="module")
def group_model(make_group_model):
    """The tiny RCAUNet, edge version, with a smaller correction: with few random channels, it amplifies errors."""
    model = make_group_model("edge")
    for weight in model.weights:
        if "gate_and_residual/kernel" in weight.path:
            weight.assign(weight / 4)
    return model


@pytest.fixture(scope="module")
def exported_group(group_model, group_photos, tmp_path_factory):
    """The int8 file of `group_model`, and `export.json`."""
    out = tmp_path_factory.mktemp("int8") / "out"
    export_model(group_model, out, format="litert", precision="int8", calibration=group_photos)
    return out / "model.tflite", json.loads((out / "export.json").read_text())


def test_an_int8_file_of_a_group_network_has_the_signatures_of_the_float16_file(exported_group, tiny_group_preset):
    file, description = exported_group
    interpreters = Interpreter(str(file)), Interpreter(str(tiny_group_preset / "model.tflite"))
    assert interpreters[0].get_signature_list() == interpreters[1].get_signature_list()
    for name in ("encode", "step", "decode"):
        int8, float16 = (interpreter.get_signature_runner(name) for interpreter in interpreters)
        for details, expected in (
            (int8.get_input_details(), float16.get_input_details()),
            (int8.get_output_details(), float16.get_output_details()),
        ):
            for key in expected:
                assert details[key]["dtype"] == np.float32
                np.testing.assert_array_equal(details[key]["shape"], expected[key]["shape"])
    assert description["calibration"]["groups"] == 2
    assert description["gpu_incompatible"] == []
    assert description["verification"]["differences"][0]["signature"] == "encode → step → decode"
    assert file.stat().st_size < 0.7 * (tiny_group_preset / "model.tflite").stat().st_size


def test_the_state_and_the_correction_of_a_group_stay_in_floating_point(exported_group):
    counts = exported_group[1]["operations"]
    assert "int8" not in counts["step"]
    assert "int8" not in counts["decode"]
    assert counts["encode"]["float32"]["CONCATENATION"] == 1  # the logits of the branches
    assert counts["encode"]["int8"]["CONV_2D"] > 70
    assert counts["encode"]["int8"]["DEPTHWISE_CONV_2D"] > 35
    model = flatbuffer.unpack(exported_group[0].read_bytes())
    kernels = [
        tensor.type
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if "correction" in tensor.name.decode() and tensor.shape is not None and len(tensor.shape) == 4
        if model.buffers[tensor.buffer].data is not None
    ]
    assert set(kernels) == {flatbuffer.schema.TensorType.FLOAT16}


def test_int8_features_and_maps_of_a_group_are_close_to_those_of_keras(
    exported_group, group_model, photographs, maps_in_parts
):
    litert, in_keras = LiteRTGroupEngine(exported_group[0], threads=1), KerasGroupEngine(group_model)
    images = [read(photo, fit=(64, 64)).rgb for photo in photographs[:4]]
    for name, expected in in_keras.encode(images[0]).items():
        received = litert.encode(images[0])[name]
        assert 0 < np.linalg.norm(received - expected) < 0.2 * np.linalg.norm(expected), name
    received, expected = (maps_in_parts(engine, images) for engine in (litert, in_keras))
    assert 0 < np.abs(received - expected).mean() < 0.02
    assert np.abs(expected - maps_in_parts(in_keras, images[:1])).mean() > 0.01


def test_an_int8_recurrent_network_keeps_its_state_in_float32(make_group_model, group_photos, tmp_path):
    file = convert(make_group_model("rcau"), tmp_path / "model.tflite", precision="int8", calibration=group_photos)
    counts = flatbuffer.count_operations(file.read_bytes())
    assert counts.keys() == {signatures.ENCODE, signatures.STEP, signatures.DECODE}
    assert counts["encode"]["int8"]["CONV_2D"] > 30
    assert counts["decode"]["int8"]["CONV_2D"] > 1
    assert "int8" not in counts["step"]
    assert gpu_incompatible(file) == []
