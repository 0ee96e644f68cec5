"""The convolution block that the layers are made of."""

import math

import keras

NORMALIZATIONS = (None, "batch", "group")
GROUPS = 8  # of group normalisation, or the largest divisor of it that the channels allow


def convolution(filters, kernel_size, strides=1, *, separable=False, normalization=None, activation="relu", name=None):
    """Convolution, normalisation, activation as one `keras.Sequential`.

    Args:
        filters: number of output channels.
        kernel_size: 1 or 3.
        strides: of the convolution.
        separable: a depthwise convolution and a 1×1 convolution in place of a dense one; a 1×1 kernel stays dense.
        normalization: None (the papers), `"batch"`, or `"group"`: statistics of each image alone.
        activation: name of the activation, or None.
        name: of the block.

    Raises:
        ValueError: if `normalization` is unknown.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"`normalization` must be one of {NORMALIZATIONS}. Received: normalization={normalization!r}")
    # A ReLU follows most blocks: He's start keeps the variance, Glorot's halves it at each step. Keras counts all
    # channels into the fan of a depthwise kernel, though each output sees one of them.
    if separable and kernel_size > 1:
        depthwise = keras.initializers.RandomNormal(stddev=1 / kernel_size)
        kind, start = (
            keras.layers.SeparableConv2D,
            {"depthwise_initializer": depthwise, "pointwise_initializer": "he_normal"},
        )
    else:
        kind, start = keras.layers.Conv2D, {"kernel_initializer": "he_normal"}
    parts = [kind(filters, kernel_size, strides, padding="same", use_bias=normalization is None, name="conv", **start)]
    if normalization == "batch":
        parts.append(keras.layers.BatchNormalization(name="bn"))
    elif normalization == "group":
        parts.append(keras.layers.GroupNormalization(math.gcd(filters, GROUPS), name="gn"))
    if activation:
        parts.append(keras.layers.Activation(activation, name=activation))
    return keras.Sequential(parts, name=name)
