import numpy as np
import pytest
import tensorflow as tf

from keras_recnet import presets
from keras_recnet.bench import flops
from keras_recnet.errors import PresetError

IMAGE = ((1, 8, 6, 3), "float32")


def kernel(*shape):
    return tf.zeros(shape)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # 5 outputs of a 3×3×3 kernel at 4×3 positions; two operations per multiplication
        (lambda image: tf.nn.conv2d(image, kernel(3, 3, 3, 5), 2, "SAME"), 2 * 5 * 27 * 12),
        # two outputs per channel, each of a 3×3 kernel
        (lambda image: tf.nn.depthwise_conv2d(image, kernel(3, 3, 3, 2), (1, 1, 1, 1), "SAME"), 2 * 6 * 9 * 48),
        # 3 channels at each of 8×6 positions contribute to 5 channels at 2×2 positions
        (lambda image: tf.nn.conv2d_transpose(image, kernel(2, 2, 5, 3), (1, 16, 12, 5), 2), 2 * 48 * 3 * 20),
        (lambda image: tf.reshape(image, (48, 3)) @ kernel(3, 7), 2 * 48 * 3 * 7),
        (lambda image: tf.matmul(tf.reshape(image, (3, 48)), kernel(3, 7), transpose_a=True), 2 * 48 * 3 * 7),
        (lambda image: tf.reshape(image, (2, 24, 3)) @ kernel(2, 3, 7), 2 * 2 * 24 * 3 * 7),
        (lambda image: tf.einsum("bhwc,cd->bhwd", image, kernel(3, 7)), 2 * 48 * 3 * 7),
        (lambda image: tf.nn.relu(tf.image.resize(image, (16, 12))), 0),
    ],
)
def test_the_count_equals_the_value_computed_by_hand(function, expected):
    assert flops.count_function(function, image=IMAGE) == expected


def test_inner_functions_are_counted_with_the_size_of_the_inputs():
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def inner(image):
        return tf.nn.conv2d(tf.image.resize(image, (4, 4)), kernel(1, 1, 3, 5), 1, "SAME")

    assert flops.count_function(lambda image: inner(image), image=((2, 9, 9, 3), "float32")) == 2 * 2 * 16 * 15


def test_a_function_with_an_unknown_shape_has_no_count():
    def crop(image):
        return tf.nn.conv2d(image[:, : tf.cast(image[0, 0, 0, 0], tf.int32)], kernel(1, 1, 3, 5), 1, "SAME")

    assert flops.count_function(crop, image=IMAGE) is None


def test_a_litert_file_has_the_operations_of_its_model(tiny_model, tiny_preset):
    inference = tiny_model.to_inference()
    count = flops.count_function(lambda image: inference(image, training=False), image=((1, 64, 64, 3), "float32"))
    assert flops.count_litert(tiny_preset / "model.tflite")["serving_default"] == count > 20e6


def test_an_int8_file_has_the_operations_and_the_precision_of_its_model():
    preset = presets.find("recnet_lite0")
    floats, int8 = (preset.file(name) for name in ("model.tflite", "model.int8.tflite"))
    assert flops.count_litert(int8) == flops.count_litert(floats)
    assert (flops.litert_precision(floats), flops.litert_precision(int8)) == ("float16", "int8")


def test_a_cosaliency_litert_file_has_the_operations_of_each_part(tiny_group_model, tiny_group_preset):
    counts = flops.count_litert(tiny_group_preset / "model.tflite")
    assert set(counts) >= {"encode", "step", "decode"}
    decoder = tiny_group_model.decoder
    specs = {name: ((1, *tensor.shape[1:]), "float32") for name, tensor in decoder.input.items()}
    assert counts["decode"] == flops.count_function(lambda **inputs: decoder(inputs, training=False), **specs) > 0
    assert counts["step"] == 0  # additions only
    assert counts["encode"] > counts["decode"]


def test_the_precision_and_signatures_of_a_litert_file_are_read(tiny_preset, tmp_path):
    assert flops.litert_precision(tiny_preset / "model.tflite") == "float16"
    assert "serving_default" in flops.litert_signatures(tiny_preset / "model.tflite")
    (tmp_path / "model.tflite").write_bytes(np.zeros(100, "uint8"))
    with pytest.raises(PresetError, match=r"model\.tflite: not a LiteRT file"):
        flops.count_litert(tmp_path / "model.tflite")


def test_the_int8_files_of_both_presets_are_int8():
    for name in ("recnet_lite0", "rcau_lite0"):
        assert flops.litert_precision(presets.find(name).file("model.int8.tflite")) == "int8"
