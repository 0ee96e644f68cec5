import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet import presets
from keras_recnet.export import standalone_runner
from keras_recnet.inference.group_engines import LiteRTGroupEngine
from keras_recnet.inference.group_stream import GroupStream


@pytest.fixture(scope="module")
def interpreter(tiny_group_preset):
    return Interpreter(str(tiny_group_preset / "model.tflite"))


def group(count):
    return list(np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype="uint8"))


def whole(model, images):
    inputs = {"images": np.stack(images)[None].astype("float32"), "mask": np.ones((1, len(images)), "bool")}
    return keras.ops.convert_to_numpy(model.to_inference()(inputs))[0, ..., 0]


def streamed(engine, images):
    with GroupStream(engine) as stream:
        for image in images:
            stream.add(engine.encode(image))
        stream.finish()
        return np.stack([stream.decode(engine.encode(image)).saliency for image in images])


def test_the_file_has_three_signatures_with_names_and_a_fixed_size(interpreter):
    features = ["P2", "foreground", "x"]
    assert interpreter.get_signature_list() == {
        "encode": {"inputs": ["image"], "outputs": features},
        "step": {"inputs": ["state", "x"], "outputs": ["state"]},
        "decode": {"inputs": sorted([*features, "state"]), "outputs": ["saliency"]},
    }
    image = interpreter.get_signature_runner("encode").get_input_details()["image"]
    assert (image["shape"].tolist(), image["dtype"]) == ([1, 64, 64, 3], np.float32)
    saliency = interpreter.get_signature_runner("decode").get_output_details()["saliency"]
    assert (saliency["shape"].tolist(), saliency["dtype"]) == ([1, 64, 64, 1], np.float32)


def test_the_file_is_small_and_needs_no_flex_operations(tiny_group_preset):
    assert b"Flex" not in (tiny_group_preset / "model.tflite").read_bytes()
    assert presets.find(tiny_group_preset).file("model.tflite").stat().st_size < 8_000_000


@pytest.mark.parametrize("count", [1, 7, 50])
def test_streaming_equals_the_whole_group_in_keras(tiny_group_model, tiny_group_preset, count):
    engine = LiteRTGroupEngine(tiny_group_preset / "model.tflite", threads=1)
    images = group(count)
    expected = whole(tiny_group_model, images)
    assert expected.std() > 0.01
    difference = np.abs(streamed(engine, images) - expected)
    assert difference.mean() < 1e-3  # weights are rounded to float16
    assert difference.max() < 0.05


@pytest.mark.parametrize(
    ("recurrent_unit", "arguments"),
    [
        ("rcau", {}),
        ("gru", {}),
        ("mean", {}),
        (None, {}),
        ("rcau", {"group_gate": True}),
        ("mean", {"group_gate": True}),
    ],
)
def test_every_recurrent_unit_streams_groups_of_any_size(group_file, recurrent_unit, arguments):
    model, file = group_file(recurrent_unit, **arguments)
    engine = LiteRTGroupEngine(file, threads=1)
    assert engine.has_state == (recurrent_unit is not None)
    for count in (1, 7, 50):
        images = group(count)
        expected = whole(model, images)
        assert expected.std() > 0.01
        np.testing.assert_allclose(streamed(engine, images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("recurrent_unit", "arguments"), [("rcau", {}), ("gru", {}), ("mean", {}), ("rcau", {"group_gate": True})]
)
def test_the_start_state_outside_keras_equals_that_of_the_cell(make_group_model, recurrent_unit, arguments):
    """The standalone runner and the Kotlin code cannot import `GroupCell.start`, so they pad with zeros themselves."""
    model = make_group_model(recurrent_unit, **arguments)
    x = np.random.default_rng(0).normal(size=(1, *model.step.input["x"].shape[1:])).astype("float32")
    expected = keras.ops.convert_to_numpy(model.cell.start(keras.ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(standalone_runner.start_state(x, model.step.output.shape[-1]), expected)
