"""Maps of small ONNX networks, compared with NumPy."""

import numpy as np
import pytest
from PIL import Image

from keras_recnet.errors import ConfigError
from keras_recnet.imaging import reading
from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines import Pair, PipelineDataError, read_pair
from keras_recnet.training import teacher
from keras_recnet.training.config.schema import TeacherConfig
from keras_recnet.training.onnx_teacher import OnnxTeacher

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WEIGHTS = np.array([0.5, -1.0, 0.75], np.float32)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def save(tmp_path):
    """Writes an ONNX file with a weighted sum of the channels, and returns its path."""

    def save(shape, dtype=TensorProto.FLOAT, *, sigmoid=False, outputs=("map",), keep=1, inputs=("image",)):
        axis = 1 if shape[1] == 3 else 3
        weights = WEIGHTS.reshape((1, 3, 1, 1) if axis == 1 else (1, 1, 1, 3))
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["float", "weights"], ["products"]),
            helper.make_node("ReduceSum", ["products", "axes"], ["sum"], keepdims=keep),
            helper.make_node("Sigmoid" if sigmoid else "Identity", ["sum"], ["map"]),
            *(helper.make_node("Neg", ["map"], [name]) for name in outputs if name != "map"),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, dtype, shape) for name in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([axis]), "axes")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return save


@pytest.fixture
def image():
    return reading.read(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_channels_first_is_normalized_as_in_pytorch_and_logits_become_probabilities(save, image):
    network = OnnxTeacher(save(["batch", 3, 24, 32]))
    assert network.size == (24, 32)
    assert str(network).endswith("model.onnx, 24×32, CPUExecutionProvider")
    expected = sigmoid(((image.rgb / 255 - MEAN) / STD) @ WEIGHTS)
    np.testing.assert_allclose(network.predict(image), expected, atol=1e-5)
    # the sigmoid can be part of the network, and the first of several outputs is the map
    network = OnnxTeacher(save([1, 3, 24, 32], sigmoid=True, outputs=("map", "negative"), keep=0))
    np.testing.assert_allclose(network.predict(image), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_channels_last_is_rgb_in_0_to_255(save, image, dtype):
    dark = reading.read(image.rgb // 64)  # so that the sum is not saturated
    expected = sigmoid(dark.rgb.astype(float) @ WEIGHTS)
    np.testing.assert_allclose(OnnxTeacher(save([1, 24, 32, 3], dtype)).predict(dark), expected, atol=1e-3)


def test_uint8_inputs_are_not_normalized(save, image):
    dark = reading.read(image.rgb // 64)
    expected = sigmoid(dark.rgb.astype(float) @ WEIGHTS)
    np.testing.assert_allclose(OnnxTeacher(save([1, 3, 24, 32], TensorProto.UINT8)).predict(dark), expected, atol=1e-5)


def test_maps_have_the_size_of_the_image(save, image):
    network = OnnxTeacher(save([1, 3, 12, 12], sigmoid=True))
    saliency_map = network.predict(image)
    assert saliency_map.shape == (24, 32)
    small = sigmoid(((resize(image.rgb, (12, 12)) / 255 - MEAN) / STD) @ WEIGHTS)
    assert abs(saliency_map.mean() - small.mean()) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": [1, 3, "height", "width"]}, r"must be an RGB image of a fixed size\. .*teacher\.maps=FOLDER.* Rec"),
        ({"shape": [2, 3, 24, 32]}, r"must have one input, .*Received: tensor\(float\)\[2, 3, 24, 32\]"),
        ({"shape": [1, 3, 24, 32], "dtype": TensorProto.INT32}, "must have one input, a float or uint8 image"),
        ({"shape": [1, 3, 24, 32], "inputs": ("image", "other")}, "must have one input"),
    ],
)
def test_networks_for_anything_else_than_an_image_of_a_fixed_size_are_errors(save, arguments, message):
    with pytest.raises(ConfigError, match=message):
        OnnxTeacher(save(**arguments))


def test_an_output_that_is_no_map_or_not_finite_is_an_error(save, image, tmp_path):
    model = onnx.load(save([1, 3, 24, 32]))
    (node,) = [node for node in model.graph.node if node.op_type == "ReduceSum"]
    node.op_type = "Identity"
    del node.input[1:], node.attribute[:]
    onnx.save(model, tmp_path / "colors.onnx")
    with pytest.raises(ConfigError, match=r"colors.onnx: its first output must be one map. Received: shape=\(1, 3, 24"):
        OnnxTeacher(tmp_path / "colors.onnx").predict(image)
    model = onnx.load(save([1, 3, 24, 32]))
    next(node for node in model.graph.node if node.op_type == "Identity").op_type = "Log"
    onnx.save(model, tmp_path / "log.onnx")
    with pytest.raises(ConfigError, match=r"log.onnx: its first output has values that are not finite"):
        OnnxTeacher(tmp_path / "log.onnx").predict(image)


def test_an_onnx_file_predicts_the_maps_of_a_training(save, image, tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(image.rgb).save(tmp_path / "images/a.png")
    Image.fromarray(image.rgb).save(tmp_path / "images/b.png")
    pairs = [Pair(name, tmp_path / f"images/{name}.png", None) for name in "ab"]
    config, lines = TeacherConfig(onnx=str(save([1, 3, 24, 32]))), []
    folder = teacher.map_folder(config, tmp_path / "run")
    taught = teacher.predict_maps(config, pairs, folder, lines.append)
    assert folder.parent == tmp_path / "run/teacher"
    assert lines == [f"Predicting 2 maps with the teacher {config.onnx}, 24×32, CPUExecutionProvider: {folder}"]
    expected = 255 * sigmoid(((image.rgb / 255 - MEAN) / STD) @ WEIGHTS)
    for pair in taught:
        np.testing.assert_allclose(read_pair(pair)[1], expected, atol=0.51)
    # another file gets another folder; an image that cannot be read is named, and the other maps are kept
    config = TeacherConfig(onnx=str(save([1, 3, 24, 32], sigmoid=True)))
    other = teacher.map_folder(config, tmp_path / "run")
    assert other != folder
    pairs[0].image.write_bytes(b"damaged")
    with pytest.raises(PipelineDataError, match=r"images/a\.png: not an image"):
        teacher.predict_maps(config, pairs, other, lines.append)
    assert [path.name for path in other.iterdir()] == ["b.png"]


def test_another_file_is_an_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not ONNX")
    with pytest.raises(ConfigError, match=r"teacher.onnx: .*model.onnx: not an ONNX file that ONNX Runtime can load"):
        OnnxTeacher(tmp_path / "model.onnx")
