"""The mean over a group, as a recurrent cell."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell


@keras.saving.register_keras_serializable(package="keras_recnet")
class MeanCell(GroupCell):
    """Running mean of the image features, the simplest baseline for a recurrent unit (ours).

    `M' = M + (X - M) / (n + 1)`. The state consists of the mean and, as an additional channel, the number n of images,
    so that groups can be streamed. n starts at 0. The order of the images does not matter except for rounding.
    The cell has no weights. It always computes in float32, because bfloat16 cannot count beyond 256.

    Args:
        **kwargs: passed to `keras.layers.Layer`; `dtype` is ignored.

    Input shape:
        X: `(batch, H, W, C)`; states: a list with one tensor `(batch, H, W, C + 1)`.

    Output shape:
        The mean, `(batch, H, W, C)`, and a list with the state, `(batch, H, W, C + 1)`.

    Raises:
        ValueError: if the features have no fixed size.

    Example:
        >>> features = keras.ops.ones((1, 14, 14, 192))
        >>> cell = MeanCell()
        >>> mean, state = cell(features, [keras.ops.zeros((1, 14, 14, 193))])
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def state_channels(self, channels):
        return channels + 1

    def step(self, prepared, state):
        mean, count = ops.split(state, [self.channels], axis=-1)
        count = count + 1
        return ops.concatenate([mean + (prepared - mean) / count, count], axis=-1)

    def start(self, first):
        count = ops.zeros_like(ops.mean(first, axis=-1, keepdims=True))
        return ops.concatenate([first, count], axis=-1)

    def representation(self, state):
        return ops.split(state, [self.channels], axis=-1)[0]
