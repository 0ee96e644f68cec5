"""A recurrent cell combined with the mean over the group."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell
from keras_recnet.layers.mean_cell import MeanCell


@keras.saving.register_keras_serializable(package="keras_recnet")
class WithMeanCell(GroupCell):
    """Applies `cell` to the first C channels of X and a `MeanCell` to the last M channels (ours).

    The state of a group then contains the state of a recurrent unit and a mean that does not depend on the order of the
    images. The state is always float32; `cell` computes in the type of its weights.

    Args:
        cell: a cell whose state has as many channels as its features: `RCAUCell` or `ConvGRUCell`.
        mean_channels: M.
        **kwargs: passed to `keras.layers.Layer`; `dtype` is ignored.

    Input shape:
        X: `(batch, H, W, C + M)`; states: a list with one tensor `(batch, H, W, C + M + 1)`: the state of `cell`, the
        mean and the number of images.

    Output shape:
        The representation of `cell` and the mean, `(batch, H, W, C + M)`, and a list with the state.

    Raises:
        ValueError: if the features have no fixed size, or the state of `cell` has a different number of channels.

    Example:
        >>> features = keras.random.normal((1, 14, 14, 194))
        >>> cell = WithMeanCell(RCAUCell(), mean_channels=2)
        >>> both, state = cell(features, [keras.ops.pad(features, [(0, 0)] * 3 + [(0, 1)])])
    """

    def __init__(self, cell, mean_channels, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.cell = cell
        self.mean = MeanCell(name="mean")
        self.mean_channels = mean_channels

    def state_channels(self, channels):
        return channels + 1

    def add_weights(self, height, width, channels):
        cell_channels = channels - self.mean_channels
        if self.cell.state_channels(cell_channels) != cell_channels:
            raise ValueError(
                f"`cell` must have a state with as many channels as its features. Received: cell={self.cell!r}, whose "
                f"state has {self.cell.state_channels(cell_channels)} channels for {cell_channels}"
            )
        for part, size in ((self.cell, cell_channels), (self.mean, self.mean_channels)):
            if not part.built:  # a loaded cell is already built
                part.build((None, height, width, size))

    def prepare(self, inputs):
        inputs, averaged = ops.split(inputs, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.prepare(self._cast(inputs)), averaged], axis=-1)

    def step(self, prepared, state):
        prepared, averaged = ops.split(prepared, [prepared.shape[-1] - self.mean_channels], axis=-1)
        state, mean = ops.split(state, [self.cell.channels], axis=-1)
        state = self.cell.step(self._cast(prepared), self._cast(state))
        return ops.concatenate([state, self.mean.step(averaged, mean)], axis=-1)

    def start(self, first):
        first, averaged = ops.split(first, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.start(first), self.mean.start(averaged)], axis=-1)

    def representation(self, state):
        state, mean = ops.split(state, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.representation(state), self.mean.representation(mean)], axis=-1)

    def _cast(self, x):
        return ops.cast(x, self.cell.variable_dtype)

    def get_config(self):
        cell = keras.saving.serialize_keras_object(self.cell)
        return {**super().get_config(), "cell": cell, "mean_channels": self.mean_channels}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)
