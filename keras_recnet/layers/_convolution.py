"""The convolution block used by the layers."""

import keras

from keras_recnet.layers.group_normalization import ChannelGroupNormalization

NORMALIZATIONS = (None, "batch", "group")


def convolution(filters, kernel_size, strides=1, *, separable=False, normalization=None, activation="relu", name=None):
    """Build convolution, normalization and activation as a `keras.Sequential`.

    Args:
        filters: number of output channels.
        kernel_size: 1 or 3.
        strides: stride of the convolution.
        separable: use a depthwise separable convolution; ignored for 1×1 kernels.
        normalization: None (the papers), `"batch"` or `"group"`.
        activation: name of the activation, or None.
        name: name of the block.

    Raises:
        ValueError: if `normalization` is unknown.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"`normalization` must be one of {NORMALIZATIONS}. Received: normalization={normalization!r}")
    # Most blocks end in a ReLU: He initialization preserves the variance; Glorot's would halve it per block. For
    # depthwise kernels Keras computes the fan from all channels, although each output depends on one channel only.
    if separable and kernel_size > 1:
        depthwise = keras.initializers.RandomNormal(stddev=1 / kernel_size)
        layer = keras.layers.SeparableConv2D
        initializers = {"depthwise_initializer": depthwise, "pointwise_initializer": "he_normal"}
    else:
        layer, initializers = keras.layers.Conv2D, {"kernel_initializer": "he_normal"}
    use_bias = normalization is None
    parts = [layer(filters, kernel_size, strides, padding="same", use_bias=use_bias, name="conv", **initializers)]
    if normalization == "batch":
        parts.append(keras.layers.BatchNormalization(name="bn"))
    elif normalization == "group":
        parts.append(ChannelGroupNormalization(name="gn"))
    if activation:
        parts.append(keras.layers.Activation(activation, name=activation))
    return keras.Sequential(parts, name=name)
