import re

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_recnet.errors import PresetError
from keras_recnet.export import metadata, read_metadata
from keras_recnet.export.litert import converting, flatbuffer
from keras_recnet.inference.engines import LiteRTEngine
from keras_recnet.inference.group_engines import LiteRTGroupEngine

CONVOLUTION = schema.BuiltinOperator.CONV_2D


@pytest.fixture(scope="module")
def small_parts():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", bias_initializer="normal")(image)
    x = keras.layers.Conv2D(1, 1, activation="sigmoid", bias_initializer="normal")(x / 255)
    return {"serving_default": keras.Model({"image": image}, {"saliency": x})}


@pytest.fixture(scope="module")
def raw(small_parts):
    """A file from the converter, without our edits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flatbuffer, "finish", lambda content, **options: content)
        return converting.convert_parts(small_parts, "float16")


def run(content, image):
    runner = Interpreter(model_content=content).get_signature_runner("serving_default")
    return runner(image=image.astype(runner.get_input_details()["image"]["dtype"]))["saliency"]


def image_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype="uint8")


def operations(content):
    """Yield the name of each operation and, for each of its inputs, whether the input is constant, and its type."""
    model = schema.ModelT.InitFromPackedBuf(content)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    types = {number: name for name, number in vars(schema.TensorType).items()}
    for operator in model.subgraphs[0].operators:
        tensors = [model.subgraphs[0].tensors[index] for index in operator.inputs]
        constants = [(model.buffers[tensor.buffer].data is not None, types[tensor.type]) for tensor in tensors]
        yield names[model.operatorCodes[operator.opcodeIndex].builtinCode], constants


def test_biases_become_plain_constants_and_kernels_stay_float16(raw):
    before, after = list(operations(raw)), list(operations(flatbuffer.finish(raw)))
    convolutions = [constants for name, constants in before if name == "CONV_2D"]
    assert [bias for *_, bias in convolutions] == [(False, "FLOAT32")] * 2
    convolutions = [constants for name, constants in after if name == "CONV_2D"]
    assert [bias for *_, bias in convolutions] == [(True, "FLOAT32")] * 2
    assert [constants for name, constants in after if name == "DEQUANTIZE"] == [[(True, "FLOAT16")]] * 2


def test_edits_do_not_change_the_outputs(raw):
    image = image_of((1, 8, 8, 3))
    expected = run(raw, image)
    assert expected.std() > 0.01
    np.testing.assert_array_equal(run(flatbuffer.finish(raw), image), expected)
    np.testing.assert_array_equal(run(flatbuffer.finish(raw, input_dtype="uint8"), image), expected)


def test_a_bias_that_is_dequantized_twice_becomes_one_plain_constant(raw):
    model = schema.ModelT.InitFromPackedBuf(raw)
    (subgraph,) = model.subgraphs
    convolution = next(o for o in subgraph.operators if flatbuffer.operation_code(model, o) == CONVOLUTION)
    index, dequantize = next((i, o) for i, o in enumerate(subgraph.operators) if o.outputs[0] == convolution.inputs[2])
    again = schema.TensorT(**vars(subgraph.tensors[dequantize.outputs[0]]))
    again.name += b"_again"
    subgraph.tensors.append(again)
    outputs = np.array([len(subgraph.tensors) - 1], "int32")
    twice = schema.OperatorT(dequantize.opcodeIndex, dequantize.inputs, outputs)
    subgraph.operators.insert(index, twice)
    convolution.inputs = np.array([*convolution.inputs[:2], *outputs], "int32")
    content = flatbuffer.finish(flatbuffer.pack(model))
    assert [constants for name, constants in operations(content) if name == "DEQUANTIZE"] == [[(True, "FLOAT16")]] * 2
    image = image_of((1, 8, 8, 3))
    np.testing.assert_array_equal(run(content, image), run(raw, image))


def test_a_uint8_image_keeps_its_values(raw):
    details = Interpreter(model_content=flatbuffer.finish(raw, input_dtype="uint8")).get_input_details()
    assert [(detail["dtype"], detail["quantization"]) for detail in details] == [(np.uint8, (1.0, 0))]
    assert details[0]["shape"].tolist() == [1, 8, 8, 3]


def test_constants_are_aligned_to_16_bytes(raw):
    content = flatbuffer.finish(raw)
    model = schema.Model.GetRootAs(content, 0)
    start = np.frombuffer(content, "uint8").ctypes.data
    places = [
        model.Buffers(index).DataAsNumpy().ctypes.data - start
        for index in range(model.BuffersLength())
        if not model.Buffers(index).DataIsNone()
    ]
    assert len(places) > 4
    assert not [place for place in places if place % 16]


def test_finish_is_deterministic_and_adds_little(raw):
    description = {"licence": "Apache-2.0", "signatures": {}}
    content = flatbuffer.finish(raw, metadata=description)
    assert content == flatbuffer.finish(raw, metadata=description)
    assert len(content) < len(raw) + 500
    assert content == flatbuffer.finish(content, metadata=description)


def test_metadata_can_be_read_and_replaced(raw, tmp_path):
    file = tmp_path / "model.tflite"
    once = flatbuffer.finish(raw, metadata={"licence": "none"})
    file.write_bytes(flatbuffer.finish(once, metadata={"licence": "für alle …"}))
    assert read_metadata(file) == {"licence": "für alle …"}


def test_reports_files_without_metadata_and_other_files(raw, tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(raw)
    with pytest.raises(flatbuffer.LiteRTFileError, match=rf"{re.escape(str(file))}: no metadata of keras_recnet"):
        read_metadata(file)
    file.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(flatbuffer.LiteRTFileError, match="Received: first bytes b'PK"):
        read_metadata(file)
    file.write_bytes(b"")
    with pytest.raises(flatbuffer.LiteRTFileError, match="not a LiteRT file"):
        read_metadata(file)
    with pytest.raises(ValueError, match="Received: input_dtype='int8'"):
        flatbuffer.finish(raw, input_dtype="int8")


def test_the_file_of_a_preset_describes_its_tensors(tiny_preset):
    file = tiny_preset / "model.tflite"
    description = read_metadata(file)
    assert description["model"] == "RecNet"
    assert "resized bilinearly with antialiasing" in description["preprocessing"]
    assert description["licence"] == "that of the data on which the weights were trained"
    runner = Interpreter(str(file)).get_signature_runner("serving_default")
    for kind, details in (("inputs", runner.get_input_details()), ("outputs", runner.get_output_details())):
        tensors = description["signatures"]["serving_default"][kind]
        assert tensors.keys() == details.keys()
        for name, detail in details.items():
            assert tensors[name]["shape"] == detail["shape"].tolist()
            assert np.dtype(tensors[name]["dtype"]) == detail["dtype"]
            assert tensors[name]["meaning"] == {"image": "RGB in 0…255", "saliency": "map in 0…1"}[name]


def test_the_file_of_a_group_preset_describes_its_features_and_its_state(tiny_group_preset):
    signatures = read_metadata(tiny_group_preset / "model.tflite")["signatures"]
    meanings = {
        (signature, kind, name): tensor["meaning"]
        for signature, tensors in signatures.items()
        for kind in ("inputs", "outputs")
        for name, tensor in tensors[kind].items()
    }
    assert meanings["encode", "inputs", "image"] == "RGB in 0…255"
    assert meanings["decode", "outputs", "saliency"] == "map in 0…1"
    state = "state of the group; 0 before the first image"
    for key in (("step", "inputs"), ("step", "outputs"), ("decode", "inputs")):
        assert meanings[*key, "consensus"] == meanings[*key, "count"] == state
    for key in (("encode", "outputs"), ("decode", "inputs")):
        assert meanings[*key, "foreground"] == "features of the image"


def test_the_license_is_the_section_about_it_in_the_card(tmp_path):
    card = tmp_path / "CARD.md"
    assert metadata.licence(card) == metadata.NO_LICENCE
    card.write_text("# tiny\n\nSmall.\n\n## Data and licence\n\nFor research\nonly.\n\n## Training\n\nLong.\n")
    assert metadata.licence(card) == "For research only."
    card.write_text("# tiny\n\nSmall.\n")
    assert metadata.licence(card) == metadata.NO_LICENCE


def test_the_shipped_file_contains_its_license():
    from keras_recnet import presets

    assert "DUTS-TR" in read_metadata(presets.find("recnet_lite0").file("model.tflite"))["licence"]


def test_the_engine_accepts_files_of_both_types(tiny_preset, tmp_path):
    floats = tiny_preset / "model.tflite"
    whole = tmp_path / "uint8.tflite"
    whole.write_bytes(flatbuffer.finish(floats.read_bytes(), input_dtype="uint8"))
    rgb = image_of((64, 64, 3))
    saliency = LiteRTEngine(whole, threads=1)(rgb)
    assert saliency.std() > 0.01
    np.testing.assert_array_equal(saliency, LiteRTEngine(floats, threads=1)(rgb))


def test_the_group_engine_accepts_files_of_both_types(tiny_group_preset, tmp_path):
    floats = tiny_group_preset / "model.tflite"
    whole = tmp_path / "uint8.tflite"
    whole.write_bytes(flatbuffer.finish(floats.read_bytes(), input_dtype="uint8"))
    rgb = image_of((64, 64, 3))
    features, expected = (LiteRTGroupEngine(file, threads=1).encode(rgb) for file in (whole, floats))
    assert features.keys() == expected.keys()
    for name, feature in features.items():
        np.testing.assert_array_equal(feature, expected[name])


@pytest.mark.parametrize(
    ("engine", "names"), [(LiteRTEngine, ["serving_default"]), (LiteRTGroupEngine, ["encode", "decode"])]
)
def test_the_engine_refuses_images_of_a_different_type(engine, names, converted, tmp_path):
    def first_channel(image):
        return {"saliency": (image + 1)[..., :1]}

    file = tmp_path / "model.tflite"
    file.write_bytes(converted(dict.fromkeys(names, first_channel), image=((1, 8, 8, 3), "int32")))
    with pytest.raises(PresetError, match="its input is int32, not float32 or uint8"):
        engine(file, threads=1)
