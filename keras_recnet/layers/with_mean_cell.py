"""A recurrent cell, and beside it the mean over the group."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell
from keras_recnet.layers.mean_cell import MeanCell


@keras.saving.register_keras_serializable(package="keras_recnet")
class WithMeanCell(GroupCell):
    """Another cell on the first channels of X and a `MeanCell` on the last ones (ours).

    So a group's state holds both what a recurrent unit remembers and a mean that no order of the images changes.

    Args:
        cell: a cell whose state has as many channels as its features: `RCAUCell` or `ConvGRUCell`.
        mean_channels: how many of the last channels the mean is of.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        X: `(batch, H, W, C + M)` with M the `mean_channels`; states: a list of one `(batch, H, W, C + M + 1)`: the
        cell's state, the mean and its count.

    Output shape:
        The cell's representation and the mean, `(batch, H, W, C + M)`, and a list with the state.

    Raises:
        ValueError: if the features have no fixed size, or the cell's state has other channels.

    Example:
        >>> features = keras.random.normal((1, 14, 14, 194))
        >>> cell = WithMeanCell(RCAUCell(), mean_channels=2)
        >>> both, state = cell(features, [keras.ops.pad(features, [(0, 0)] * 3 + [(0, 1)])])
    """

    def __init__(self, cell, mean_channels, **kwargs):
        super().__init__(**kwargs)
        self.cell = cell
        self.mean = MeanCell(name="mean")
        self.mean_channels = mean_channels

    def state_channels(self, channels):
        return channels + 1

    def add_weights(self, height, width, channels):
        own = channels - self.mean_channels
        if self.cell.state_channels(own) != own:
            raise ValueError(
                f"`cell` must have a state of as many channels as its features. Received: cell={self.cell!r}, whose "
                f"state has {self.cell.state_channels(own)} for {own}"
            )
        for part, size in ((self.cell, own), (self.mean, self.mean_channels)):
            if not part.built:  # a loaded one is
                part.build((None, height, width, size))

    def prepare(self, inputs):
        inputs, averaged = ops.split(inputs, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.prepare(inputs), averaged], axis=-1)

    def step(self, prepared, state):
        prepared, averaged = ops.split(prepared, [prepared.shape[-1] - self.mean_channels], axis=-1)
        state, mean = ops.split(state, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.step(prepared, state), self.mean.step(averaged, mean)], axis=-1)

    def start(self, first):
        first, averaged = ops.split(first, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.start(first), self.mean.start(averaged)], axis=-1)

    def representation(self, state):
        state, mean = ops.split(state, [self.cell.channels], axis=-1)
        return ops.concatenate([self.cell.representation(state), self.mean.representation(mean)], axis=-1)

    def get_config(self):
        cell = keras.saving.serialize_keras_object(self.cell)
        return {**super().get_config(), "cell": cell, "mean_channels": self.mean_channels}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)
