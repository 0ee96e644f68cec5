import keras
import numpy as np
import pytest

from keras_recnet import backbones
from keras_recnet.errors import WeightsError

EXPECTED = {  # strides and channels of P1 … P5
    "resnet50": ([2, 4, 8, 8, 8], [64, 256, 512, 1024, 2048]),
    "vgg16": ([1, 2, 4, 8, 16], [64, 128, 256, 512, 512]),
    "efficientnet_lite0": ([2, 4, 8, 16, 32], [16, 24, 40, 112, 320]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_side_outputs_have_the_documented_strides_and_channels(name):
    strides, channels = EXPECTED[name]
    model = backbones.build(name, (64, 96), weights=None)
    assert list(model.strides.values()) == strides
    expected = [(None, 64 // s, 96 // s, c) for s, c in zip(strides, channels, strict=True)]
    assert [tuple(model.output[f"P{index}"].shape) for index in range(1, 6)] == expected


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_batch_normalization_has_no_trainable_weights(name, freeze):
    model = backbones.build(name, 64, weights=None, freeze_batch_normalization=freeze)
    gammas = [weight for weight in model.trainable_weights if weight.name == "gamma"]
    assert bool(gammas) is not freeze


def test_the_subsampled_dilated_resnet_equals_the_original():
    original = backbones.build("resnet50", 64, weights=None, output_stride=32)
    rng = np.random.default_rng(0)
    for layer in original.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            gamma, variance = rng.uniform(0.5, 1, shape), rng.uniform(0.5, 1, shape)
            layer.set_weights([gamma, 0.1 * rng.normal(size=shape), 0.1 * rng.normal(size=shape), variance])
    image = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = original(image)
    for output_stride in (16, 8):
        dilated = backbones.build("resnet50", 64, weights=None, output_stride=output_stride)
        dilated.set_weights(original.get_weights())
        outputs = dilated(image)
        for name, stride in original.strides.items():
            step = stride // dilated.strides[name]
            value = keras.ops.convert_to_numpy(outputs[name])[:, ::step, ::step]
            reference = keras.ops.convert_to_numpy(expected[name])
            assert np.abs(value - reference).max() <= 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize(("name", "first"), [("vgg16", "block1_conv1"), ("resnet50", "conv1_conv")])
def test_caffe_preprocessing_is_part_of_the_model(name, first):
    model = backbones.build(name, 32, weights=None)
    probe = keras.Model(model.input, model.get_layer("preprocessing").output)
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(
        image.copy(), data_format="channels_last", mode="caffe"
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(probe(image)), expected, atol=1e-4)
    assert model.get_layer(first).input is not model.input


def convolve(x, kernel, stride, depthwise=False):
    """Convolution with TensorFlow's "same" padding, window by window."""
    size = kernel.shape[0]
    padding = []
    for length in x.shape[:2]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
    x = np.pad(x, (*padding, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))[::stride, ::stride]
    if depthwise:
        return np.einsum("hwcij,ijc->hwc", windows, kernel[..., 0])
    return np.einsum("hwcij,ijco->hwo", windows, kernel, optimize=True)


def lite0_in_numpy(image):
    """EfficientNet-Lite0 in NumPy and float64, implemented from its table of blocks."""
    with np.load(backbones.efficientnet_lite0.__globals__["IMAGENET"]) as file:
        weights = {name: array.astype("float64") for name, array in file.items()}

    def normalize(x, name, relu6=True):
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
        return np.clip(x, 0, 6) if relu6 else x

    x = normalize(convolve((image.astype("float64") - 127) / 128, weights["stem_conv/kernel"], 2), "stem")
    # strides of the 16 blocks; side outputs are the outputs of blocks 1, 3, 5, 11 and 16
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    outputs = {}
    for number, stride in enumerate(strides, start=1):
        name, shortcut = f"block{number}", x
        if number > 1:
            x = normalize(convolve(x, weights[f"{name}_expand_conv/kernel"], 1), f"{name}_expand")
        x = normalize(convolve(x, weights[f"{name}_depthwise_conv/kernel"], stride, True), f"{name}_depthwise")
        x = normalize(convolve(x, weights[f"{name}_project_conv/kernel"], 1), f"{name}_project", relu6=False)
        if x.shape == shortcut.shape:
            x = x + shortcut
        if number in (1, 3, 5, 11, 16):
            outputs[f"P{len(outputs) + 1}"] = x
    return outputs


def test_lite0_with_imagenet_weights_equals_numpy():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype("float32")
    outputs = backbones.build("efficientnet_lite0", 64)(image[None])
    for name, expected in lite0_in_numpy(image).items():
        value = keras.ops.convert_to_numpy(outputs[name])[0]
        np.testing.assert_allclose(value, expected, atol=2e-4 * np.abs(expected).max())


def test_weights_of_keras_applications_are_loaded_from_a_file(tmp_path):
    source = keras.applications.VGG16(include_top=False, weights=None)
    path = tmp_path / "vgg16.weights.h5"
    source.save_weights(path)
    model = backbones.build("vgg16", 32, weights=path)
    for layer in ("block1_conv1", "block5_conv3"):
        np.testing.assert_array_equal(model.get_layer(layer).get_weights()[0], source.get_layer(layer).get_weights()[0])


@pytest.mark.parametrize("name", EXPECTED)
def test_missing_or_invalid_weights_are_named_in_the_error(name, tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.file"):
        backbones.build(name, 32, weights=tmp_path / "gone.file")
    path = tmp_path / "text.weights.h5"
    path.write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.weights\.h5"):
        backbones.build(name, 32, weights=path)


def test_a_failed_download_suggests_a_weights_file(monkeypatch):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure")  # what Keras raises

    monkeypatch.setattr("keras.src.applications.vgg16.file_utils.get_file", offline)
    with pytest.raises(WeightsError, match="path of a file"):
        backbones.build("vgg16", 32, weights="imagenet")


@pytest.mark.parametrize(
    "bad",
    [
        lambda: backbones.build("resnet18", 64),
        lambda: backbones.build("resnet50", 64, weights=None, output_stride=4),
        lambda: backbones.build("vgg16", 64, weights=None, output_stride=8),
        lambda: backbones.build("efficientnet_lite0", 64, output_stride=16),
        lambda: backbones.build("efficientnet_lite0", 100),
        lambda: backbones.build("vgg16", (64, 0), weights=None),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
