"""EfficientNet-Lite0 as a backbone, for mobile devices and CPUs."""

import os
from pathlib import Path

import keras
import numpy as np
from keras import layers

from keras_recnet.backbones._common import image_shape, side_outputs
from keras_recnet.errors import WeightsError

IMAGENET = Path(__file__).with_name("efficientnet_lite0_imagenet.npz")
STRIDES = {"P1": 2, "P2": 4, "P3": 8, "P4": 16, "P5": 32}
# one stage per row: repeats, kernel, stride, expansion, channels, and the name of its side output or None
STAGES = (
    (1, 3, 1, 1, 16, "P1"),
    (2, 3, 2, 6, 24, "P2"),
    (2, 5, 2, 6, 40, "P3"),
    (3, 3, 2, 6, 80, None),
    (3, 5, 1, 6, 112, "P4"),
    (4, 5, 2, 6, 192, None),
    (1, 3, 1, 6, 320, "P5"),
)


def efficientnet_lite0(
    image_size: int | tuple[int, int] = 224,
    *,
    weights: str | os.PathLike | None = "imagenet",
    output_stride: int = 32,
    freeze_batch_normalization: bool = True,
) -> keras.Model:
    """Build EfficientNet-Lite0 without its classifier: inverted residuals with ReLU6, no squeeze-and-excitation.

    `P1` … `P5` are the outputs of stages 1, 2, 3, 5 and 7, with strides 2, 4, 8, 16 and 32 and with
    16, 24, 40, 112 and 320 channels.

    Args:
        image_size: height and width, multiples of 32.
        weights: `"imagenet"` (shipped with the library), the path of an `.npz` file with the same arrays, or None for
            random values.
        output_stride: must be 32.
        freeze_batch_normalization: use stored batch statistics in training too, and do not train scale and offset.

    Input shape:
        `(batch, height, width, 3)`, RGB in 0…255.

    Output shape:
        A dict of `(batch, height / stride, width / stride, channels)`.

    Raises:
        ValueError: if `image_size` or `output_stride` is invalid.
        WeightsError: if the weights cannot be read or do not match.

    Reference:
        Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019, in the "Lite"
        variant of the TensorFlow TPU models.
    """
    if output_stride != STRIDES["P5"]:
        raise ValueError(f"`output_stride` of efficientnet_lite0 must be 32. Received: output_stride={output_stride!r}")
    inputs = keras.Input(image_shape(image_size, STRIDES["P5"]), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="preprocessing")(inputs)
    x = _convolution(x, 32, 3, 2, "stem")
    outputs, block = {}, 0
    for repeats, kernel, stride, expansion, channels, side_output in STAGES:
        for repeat in range(repeats):
            block += 1
            x = _inverted_residual(x, kernel, stride if repeat == 0 else 1, expansion, channels, f"block{block}")
        if side_output:
            outputs[side_output] = x
    model = side_outputs("efficientnet_lite0", inputs, outputs, STRIDES, freeze_batch_normalization)
    if weights is not None:
        _load(model, IMAGENET if weights == "imagenet" else Path(weights))
    return model


def _normalization(x, name, relu6=True):
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu6")(x) if relu6 else x


def _convolution(x, filters, kernel, stride, name, relu6=True):
    x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return _normalization(x, name, relu6)


def _inverted_residual(inputs, kernel, stride, expansion, channels, name):
    x, width = inputs, inputs.shape[-1]
    if expansion > 1:
        x = _convolution(x, width * expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = _normalization(x, f"{name}_depthwise")
    x = _convolution(x, channels, 1, 1, f"{name}_project", relu6=False)
    return layers.Add(name=f"{name}_add")([x, inputs]) if stride == 1 and width == channels else x


def _load(model, path):
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read as an .npz file with weights of EfficientNet-Lite0 ({error}). "
            f"`weights` must be 'imagenet', the path of such a file, or None."
        ) from error
    for layer in model.layers:
        names = [f"{layer.name}/{variable.path.split('/')[-1]}" for variable in layer.weights]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise WeightsError(f"{path}: not the weights of EfficientNet-Lite0, {missing[0]} is missing.")
        if names:
            layer.set_weights([arrays[name].astype("float32") for name in names])
