import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet import presets
from keras_recnet.export.litert import converting
from keras_recnet.inference.group_engines import KerasGroupEngine, LiteRTGroupEngine
from keras_recnet.layers import GroupCorrection
from keras_recnet.models import RecNet


@pytest.fixture(scope="module")
def interpreter(tiny_group_preset):
    return Interpreter(str(tiny_group_preset / "model.tflite"))


def group(count):
    return list(np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype="uint8"))


def whole(model, images):
    inputs = {"images": np.stack(images)[None].astype("float32"), "mask": np.ones((1, len(images)), "bool")}
    return keras.ops.convert_to_numpy(model.to_inference()(inputs))[0, ..., 0]


def test_the_file_has_three_signatures_with_names_and_a_fixed_size(interpreter):
    features = ["branches", "embedding", "foreground", "moments", "salient", "vector", "x"]
    state = ["consensus", "consensus_moments", "count"]
    assert interpreter.get_signature_list() == {
        "encode": {"inputs": ["image"], "outputs": features},
        "step": {"inputs": sorted(["moments", "vector", *state]), "outputs": state},
        "decode": {"inputs": sorted([*features, *state]), "outputs": ["saliency"]},
    }
    image = interpreter.get_signature_runner("encode").get_input_details()["image"]
    assert (image["shape"].tolist(), image["dtype"]) == ([1, 64, 64, 3], np.float32)
    saliency = interpreter.get_signature_runner("decode").get_output_details()["saliency"]
    assert (saliency["shape"].tolist(), saliency["dtype"]) == ([1, 64, 64, 1], np.float32)


def test_the_file_is_small_and_needs_no_flex_operations(tiny_group_preset):
    assert b"Flex" not in (tiny_group_preset / "model.tflite").read_bytes()
    assert presets.find(tiny_group_preset).file("model.tflite").stat().st_size < 8_000_000


@pytest.mark.parametrize("count", [1, 7, 50])
def test_streaming_equals_the_whole_group_in_keras(tiny_group_model, tiny_group_preset, count, maps_in_parts):
    engine = LiteRTGroupEngine(tiny_group_preset / "model.tflite", threads=1)
    images = group(count)
    expected = whole(tiny_group_model, images)
    assert expected.std() > 0.01
    difference = np.abs(maps_in_parts(engine, images) - expected)
    assert difference.mean() < 2e-3  # weights are rounded to float16
    assert difference.max() < 0.05


@pytest.mark.parametrize("version", ["edge", "rcau", "gru", "mean", None])
def test_every_version_streams_groups_of_any_size(group_file, version, maps_in_parts):
    model, file = group_file(version)
    engine = LiteRTGroupEngine(file, threads=1)
    assert (engine.state_shapes == {}) == (version is None)
    for count in (1, 7, 50):
        images = group(count)
        expected = whole(model, images)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(maps_in_parts(engine, images), expected, atol=1e-4)


@pytest.mark.parametrize("version", ["edge", "rcau", "gru", "mean", None])
def test_litert_and_keras_have_the_same_features_and_state(group_file, version):
    model, file = group_file(version)
    litert, in_keras = LiteRTGroupEngine(file, threads=1), KerasGroupEngine(model)
    assert litert.state_shapes == in_keras.state_shapes
    assert litert.step_features == in_keras.step_features


def test_a_group_of_one_image_has_the_map_of_recnet(group_file, maps_in_parts):
    model, file = group_file("edge")
    (image,) = group(1)
    recnet = RecNet(model.backbone_name, model.image_size, backbone_weights=None, **model.recnet)
    source = {weight.path: weight for weight in model.pretrained.weights}
    for weight in recnet.weights:
        weight.assign(source[weight.path])
    expected = keras.ops.convert_to_numpy(recnet.to_inference()(image[None].astype("float32")))[..., 0]
    np.testing.assert_allclose(maps_in_parts(LiteRTGroupEngine(file, threads=1), [image]), expected, atol=2e-4)


def test_a_saturated_map_is_finite_with_float16_constants(tmp_path):
    branches, correction = keras.Input((4, 4, 2), name="branches"), keras.Input((4, 4, 2), name="correction")
    count = keras.Input((1,), name="count")
    inputs = {"branches": branches, "correction": correction, "count": count}
    logits = GroupCorrection("average")([branches, correction, count])
    file = tmp_path / "model.tflite"
    file.write_bytes(converting.convert_parts({"decode": keras.Model(inputs, {"logits": logits})}, "float16"))
    values = {"correction": np.zeros((1, 4, 4, 2), "float32"), "count": np.full((1, 1), 3, "float32")}
    for sign in (1, -1):
        values["branches"] = sign * np.full((1, 4, 4, 2), (90, -90), "float32")
        received = Interpreter(str(file)).get_signature_runner("decode")(**values)["logits"]
        np.testing.assert_allclose(received, sign * np.log(1e4), rtol=1e-3)
