import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from keras_recnet import presets
from keras_recnet.backbones._common import CaffePreprocessing
from keras_recnet.export import gpu_incompatible
from keras_recnet.export.litert import converting, flatbuffer
from keras_recnet.layers import FUSIONS, FeatureIntegration, Fusion, PredictionHead, RCAUCell, ReciprocalAttention

IMAGE = ((1, 8, 8, 3), "float32")


def in_file(content, folder):
    file = folder / "model.tflite"
    file.write_bytes(content)
    return file


def as_uint8(file, folder):
    return in_file(flatbuffer.finish(file.read_bytes(), input_dtype="uint8"), folder)


def test_the_gpu_supports_every_operation_of_the_shipped_file(tmp_path):
    file = presets.find("recnet_lite0").file("model.tflite")
    assert gpu_incompatible(file) == []
    assert gpu_incompatible(as_uint8(file, tmp_path)) == []


@pytest.mark.parametrize("preset", ["tiny_preset", "tiny_group_preset"])
def test_the_gpu_supports_float16_weights(preset, request, tmp_path):
    file = request.getfixturevalue(preset) / "model.tflite"
    assert gpu_incompatible(file) == []
    assert gpu_incompatible(as_uint8(file, tmp_path)) == []


@pytest.mark.parametrize("version", ["edge", "rcau", "gru", "mean", None])
def test_the_gpu_supports_all_signatures_of_each_version(group_file, version, tmp_path):
    _, file = group_file(version)
    assert gpu_incompatible(file) == []
    assert gpu_incompatible(as_uint8(file, tmp_path)) == []


def test_products_of_the_edge_version_need_no_transposition(group_file):
    """The GPU delegate of TensorFlow Lite accepts a product of transposed matrices, but ignores the transposition."""
    file = group_file("edge")[1]
    model = flatbuffer.unpack(file.read_bytes(), file)
    products = [
        operator.builtinOptions
        for subgraph in model.subgraphs
        for operator in subgraph.operators
        if flatbuffer.operation_code(model, operator) == schema.BuiltinOperator.BATCH_MATMUL
    ]
    assert len(products) == 3
    assert not any(options.adjX or options.adjY for options in products)


def test_the_gpu_supports_the_layers_of_the_papers_networks(tmp_path):
    """Caffe's preprocessing, dilation, dense blocks without normalization, the joint softmax, all fusions."""
    image = keras.Input((32, 32, 3), name="image")
    fine = keras.layers.Conv2D(4, 3, 2)(keras.layers.ZeroPadding2D()(CaffePreprocessing()(image)))
    coarse = keras.layers.Conv2D(4, 3, dilation_rate=2, padding="same")(keras.layers.MaxPooling2D(4)(fine))
    sides = {"P1": fine, "P3": coarse}
    features = [FeatureIntegration({"P1": 2, "P3": 8}, filters=4, stride=8)(sides) for _ in range(2)]
    features = ReciprocalAttention(key_channels=4)(features)
    logits = keras.layers.Concatenate()([PredictionHead(4)([feature]) for feature in features])
    logits = keras.layers.Conv2DTranspose(2, 4, 2, padding="same")(logits)
    logits = keras.layers.UpSampling2D(4, interpolation="bilinear")(logits)
    parts = {fusion: keras.Model({"image": image}, {"saliency": Fusion(fusion)(logits)}) for fusion in FUSIONS}
    assert gpu_incompatible(in_file(converting.convert_parts(parts, "float16"), tmp_path)) == []


@pytest.mark.parametrize("options", [{"use_spatial_attention": False}, {"use_channel_attention": False}])
def test_the_gpu_supports_the_ablations_of_the_recurrent_unit(options, tmp_path):
    x, state = keras.Input((4, 4, 6), name="x"), keras.Input((4, 4, 6), name="state")
    step = keras.Model({"x": x, "state": state}, {"state": RCAUCell(**options)(x, [state])[1][0]})
    assert gpu_incompatible(in_file(converting.convert_parts({"step": step}, "float32"), tmp_path)) == []


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda image: tf.math.top_k(image, 2)[0], "TOPK_V2 [1, 8, 8, 3]"),
        (lambda image: tf.reverse(image, [-1]) + 1.0, "REVERSE_V2 [1, 8, 8, 3], [1]"),
        (
            lambda image: tf.exp(image[..., :1]) * tf.exp(image[:, :1, :1]),
            "MUL [1, 8, 8, 1], [1, 1, 1, 3]: only one operand",
        ),
        (
            lambda image: tf.nn.bias_add(tf.reduce_mean(image, (1, 2)), tf.reshape(tf.reduce_max(image, (1, 2)), [3])),
            "ADD [1, 3], [3]: an operand with one dimension",
        ),
        (
            lambda image: tf.reduce_mean(image, (1, 2), keepdims=True) + np.ones((1, 8, 8, 1), "float32"),
            "ADD [1, 1, 1, 3], [1, 8, 8, 1]: an operand may not be broadcast to the size of a constant",
        ),
        (lambda image: tf.reshape(image, (1, 2, 4, 8, 3)) + 1.0, "ADD [1, 2, 4, 8, 3], []: a tensor with more than 4"),
        (lambda image: tf.nn.conv2d(image, tf.reshape(image, (8, 8, 3, 1)), 1, "VALID"), None),
    ],
    ids=[
        "no such operation",
        "reverse",
        "both operands broadcast",
        "vector computed at run time",
        "broadcast to a constant",
        "five dimensions",
        "kernel computed at run time",
    ],
)
def test_unsupported_operations_are_found(function, expected, converted, tmp_path):
    content = converted({"serving_default": lambda image: {"saliency": function(image)}}, image=IMAGE)
    problems = gpu_incompatible(in_file(content, tmp_path))
    if expected is None:
        assert problems == []
    else:
        assert [line for line in problems if line.startswith(f"serving_default: {expected}")]


def test_a_cast_of_uint8_is_found(converted, tmp_path):
    kernel, bias = np.ones((3, 3, 3, 4), "float32"), np.arange(4, dtype="float32")

    def convolution(image):
        return {"saliency": tf.nn.conv2d(tf.cast(image, tf.float32), kernel, 1, "SAME") + bias}

    content = converted({"serving_default": convolution}, image=((1, 8, 8, 3), "uint8"))
    problems = gpu_incompatible(in_file(content, tmp_path))
    assert len(problems) == 1
    assert problems[0].startswith("serving_default: CAST [1, 8, 8, 3]: ")


def test_float16_biases_of_the_converter_are_found(tmp_path, monkeypatch):
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model({"image": image}, {"saliency": keras.layers.Conv2D(4, 3, bias_initializer="ones")(image)})
    monkeypatch.setattr(flatbuffer, "finish", lambda content, **options: content)
    problems = gpu_incompatible(in_file(converting.convert_parts({"serving_default": model}, "float16"), tmp_path))
    assert len(problems) == 1
    assert "CONV_2D [1, 8, 8, 3], [4, 3, 3, 3], [4]: one or two of image, kernel and bias" in problems[0]


def test_the_analyzer_of_tensorflow_never_warns(tiny_group_preset, capsys):
    """Since TensorFlow 2.18 it calls every file compatible. If this test fails, the Analyzer may replace our check."""
    content = (tiny_group_preset / "model.tflite").read_bytes()
    tf.lite.experimental.Analyzer.analyze(model_content=content, gpu_compatibility=True)
    output = capsys.readouterr().out
    assert "Signature#2" in output
    assert "GPU COMPATIBILITY WARNING" not in output


def test_reports_a_file_that_is_not_litert(tmp_path):
    with pytest.raises(flatbuffer.LiteRTFileError, match="first bytes b'PK"):
        gpu_incompatible(in_file(b"PK\x03\x04", tmp_path))
