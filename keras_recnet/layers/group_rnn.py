"""The loop of a recurrent cell over the images of a group."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell


@keras.saving.register_keras_serializable(package="keras_recnet")
class GroupRNN(keras.layers.RNN):
    """Lets a cell with a feature map as its state walk over the images of a group.

    The state starts from the first image that the mask lets through, `G_0 = X_1`; then every image, that one included,
    is one step. An image that the mask leaves out does not touch the state, wherever in the group it stands. All
    that the cell can compute from the images alone is computed for the whole group at once, before the loop.

    `keras.layers.RNN` knows states that are vectors only; this class gives the right shapes. Its `go_backwards` and
    `stateful` are refused: a group has no direction, so turn the images round instead, and to go on with a state pass
    `initial_state`.

    Args:
        cell: `RCAUCell`, `ConvGRUCell` or `MeanCell`.
        return_sequences: give the representation after each image, not only after the last.
        return_state: give the final state as well, in a tuple.
        unroll: write the steps one after another in place of a loop; the number of images must be fixed.
        go_backwards: must be False.
        stateful: must be False.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        sequences: `(batch, images, H, W, C)`.
        initial_state: None, or the state to go on with, `(batch, H, W, C)`.
        mask: None, or boolean `(batch, images)`, True for the images that count.

    Input shape:
        `(batch, images, H, W, C)`, any number of images.

    Output shape:
        `(batch, H, W, C)`; with `return_sequences` `(batch, images, H, W, C)`, in which an image that is left out has
        the representation before it. A group with no image at all has zeros.

    Raises:
        ValueError: if the cell is of another kind, the features have no fixed size, or `go_backwards` or `stateful`.

    Example:
        >>> features = keras.random.normal((2, 5, 14, 14, 192))
        >>> mask = keras.ops.convert_to_tensor([[True] * 5, [True] * 3 + [False] * 2])
        >>> GroupRNN(RCAUCell())(features, mask=mask).shape
        (2, 14, 14, 192)

    Reference:
        RCAU paper, Section 2.3, Eq. 3 and "G_0 is initialized with X_1".
    """

    def __init__(
        self,
        cell,
        *,
        return_sequences=False,
        return_state=False,
        unroll=False,
        go_backwards=False,
        stateful=False,
        **kwargs,
    ):
        if not isinstance(cell, GroupCell):
            raise ValueError(
                f"`GroupRNN` expects an `RCAUCell`, `ConvGRUCell` or `MeanCell`. Received: cell={cell!r} (of type "
                f"{type(cell).__name__})"
            )
        if go_backwards:
            raise ValueError(
                f"`GroupRNN` walks forwards: turn the images and their mask round instead. Received: go_backwards="
                f"{go_backwards!r}"
            )
        if stateful:
            raise ValueError(
                f"`GroupRNN` keeps no state between calls: pass `initial_state` to go on with one. Received: stateful="
                f"{stateful!r}"
            )
        super().__init__(cell, return_sequences=return_sequences, return_state=return_state, unroll=unroll, **kwargs)

    def build(self, sequences_shape, initial_state_shape=None):
        if len(sequences_shape) != 5:
            raise ValueError(
                f"`GroupRNN` expects features (batch, images, height, width, channels). Received: sequences_shape="
                f"{sequences_shape}"
            )
        super().build(sequences_shape)
        self.state_size = list(self.cell.state_size)  # which the cell has only now

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if initial_state is None:
            initial_state = self.cell.start(_first_image(sequences, mask))
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        # Keras' own loop masks states that are vectors only (on JAX), and takes the state for the output.
        steps = self.cell.prepare(sequences)
        if mask is not None:
            # one more channel tells whether the image counts
            flag = ops.broadcast_to(ops.cast(_over_features(mask), steps.dtype), (*ops.shape(steps)[:-1], 1))
            steps = ops.concatenate([steps, flag], axis=-1)
        steps = ops.transpose(steps, (1, 0, 2, 3, 4))

        def step(state, prepared):
            if mask is None:
                new = self.cell.step(prepared, state)
            else:
                prepared, flag = ops.split(prepared, [steps.shape[-1] - 1], axis=-1)
                new = ops.where(flag > 0, self.cell.step(prepared, state), state)
            return new, new

        state = initial_state[0]
        if self.unroll:
            states = []
            for index in range(steps.shape[0]):
                state, _ = step(state, steps[index])
                states.append(state)
            states = ops.stack(states, axis=0)
        else:
            state, states = ops.scan(step, state, steps)
        output = self.cell.representation(state)
        outputs = output
        if self.return_sequences:
            outputs = self.cell.representation(ops.transpose(states, (1, 0, 2, 3, 4)))
        return output, outputs, [state]

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, images, height, width, channels = sequences_shape
        output = (batch, images, height, width, channels) if self.return_sequences else (batch, height, width, channels)
        if self.return_state:
            return output, (batch, height, width, self.cell.state_channels(channels))
        return output

    def get_config(self):
        config = super().get_config()
        del config["zero_output_for_mask"]
        return config


def _first_image(sequences, mask):
    """`(batch, H, W, C)`: of each group the first image that the mask lets through; zeros if there is none."""
    if mask is None:
        return ops.take(sequences, 0, axis=1)
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    first = ops.logical_and(ops.cast(mask, "bool"), ops.equal(count, 1))
    return ops.sum(ops.where(_over_features(first), sequences, 0), axis=1)


def _over_features(mask):
    """`(batch, images)` → `(batch, images, 1, 1, 1)`."""
    return ops.expand_dims(mask, axis=(2, 3, 4))
