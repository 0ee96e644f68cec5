"""Group normalization with tensors of at most four dimensions."""

import math

import keras
from keras import ops

EPSILON = 1e-3


@keras.saving.register_keras_serializable(package="keras_recnet")
class ChannelGroupNormalization(keras.layers.Layer):
    """Normalizes each image over its positions and a group of channels, then scales and shifts each channel.

    Equals `keras.layers.GroupNormalization`, whose tensors have five dimensions, while GPU delegates of LiteRT support
    only four. Unlike batch normalization, the result does not depend on the other images of a batch. The statistics are
    computed in float32.

    Args:
        groups: number of channel groups; reduced to the greatest common divisor of itself and the number of channels.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        Same as the input.

    Reference:
        Wu and He, Group Normalization, ECCV 2018.
    """

    def __init__(self, groups=8, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, input_shape):
        channels = input_shape[-1]
        self.scale = self.add_weight(name="scale", shape=(channels,), initializer="ones")
        self.offset = self.add_weight(name="offset", shape=(channels,), initializer="zeros")

    def call(self, inputs):
        _, height, width, channels = inputs.shape
        groups = math.gcd(self.groups, channels)
        x = ops.reshape(ops.cast(inputs, "float32"), (-1, height * width, groups, channels // groups))
        x = x - ops.mean(x, axis=(1, 3), keepdims=True)
        x = x * ops.rsqrt(ops.mean(x * x, axis=(1, 3), keepdims=True) + EPSILON)
        x = ops.cast(ops.reshape(x, (-1, height, width, channels)), inputs.dtype)
        return x * ops.cast(self.scale, x.dtype) + ops.cast(self.offset, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}
