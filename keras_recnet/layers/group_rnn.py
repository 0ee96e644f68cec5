"""Recurrent layer over the images of a group."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell


@keras.saving.register_keras_serializable(package="keras_recnet")
class GroupRNN(keras.layers.RNN):
    """Runs a cell whose state is a feature map over the images of a group.

    The initial state is the first unmasked image, `G_0 = X_1` as in the paper (ours for other cells). Then each image,
    including the first one, is one step. Masked images leave the state unchanged, at any position in the group. The
    part of the cell that depends only on the images is computed for the whole group before the loop.

    `keras.layers.RNN` computes shapes only for states that are vectors; this class supports feature maps. It rejects
    `go_backwards` (reverse the images instead) and `stateful` (pass `initial_state` instead).

    Args:
        cell: `RCAUCell` or `ConvGRUCell`.
        return_sequences: return the state after each image instead of only the last one.
        return_state: return a tuple of the output and the final state.
        unroll: unroll the loop; requires a fixed number of images.
        go_backwards: must be False.
        stateful: must be False.
        **kwargs: passed to `keras.layers.Layer`; `dtype` defaults to the dtype of `cell`.

    Call arguments:
        sequences: `(batch, images, H, W, C)`.
        initial_state: state to continue from, `(batch, H, W, C)`, or None.
        mask: boolean `(batch, images)`, False for padding, or None.

    Input shape:
        `(batch, images, H, W, C)`, any number of images.

    Output shape:
        `(batch, H, W, C)`, or `(batch, images, H, W, C)` with `return_sequences`, where masked images repeat the
        previous state. The output of a group without images is zero.

    Raises:
        ValueError: if `cell` is not one of these cells, the features have no fixed size, or `go_backwards` or
            `stateful` is set.

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
                f"`GroupRNN` expects an `RCAUCell` or `ConvGRUCell`. Received: "
                f"cell={cell!r} (of type {type(cell).__name__})"
            )
        if go_backwards:
            raise ValueError(
                f"`GroupRNN` does not support `go_backwards`: reverse the images and their mask instead. Received: "
                f"go_backwards={go_backwards!r}"
            )
        if stateful:
            raise ValueError(
                f"`GroupRNN` does not support `stateful`: pass `initial_state` to continue from a state. Received: "
                f"stateful={stateful!r}"
            )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            unroll=unroll,
            **{"dtype": cell.dtype_policy, **kwargs},
        )

    def build(self, sequences_shape, initial_state_shape=None):
        if len(sequences_shape) != 5:
            raise ValueError(
                f"`GroupRNN` expects features (batch, images, height, width, channels). Received: sequences_shape="
                f"{sequences_shape}"
            )
        super().build(sequences_shape)
        self.state_size = list(self.cell.state_size)  # only known once the cell is built

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if initial_state is None:
            initial_state = _first_image(sequences, mask)
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        # Keras' own loop supports masks only for vector states (on JAX) and returns the state as the output.
        steps = self.cell.prepare(sequences)
        if mask is not None:
            # the mask as an additional channel
            flag = ops.broadcast_to(ops.cast(_expand_to_features(mask), steps.dtype), (*ops.shape(steps)[:-1], 1))
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
        outputs = ops.transpose(states, (1, 0, 2, 3, 4)) if self.return_sequences else state
        return state, outputs, [state]

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, images, height, width, channels = sequences_shape
        output = (batch, images, height, width, channels) if self.return_sequences else (batch, height, width, channels)
        if self.return_state:
            return output, (batch, height, width, channels)
        return output

    def get_config(self):
        config = super().get_config()
        del config["zero_output_for_mask"]
        return config


def _first_image(sequences, mask):
    """First unmasked image of each group, `(batch, H, W, C)`, or zeros if there is none."""
    if mask is None:
        return ops.take(sequences, 0, axis=1)
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    first = ops.logical_and(ops.cast(mask, "bool"), ops.equal(count, 1))
    return ops.sum(ops.where(_expand_to_features(first), sequences, 0), axis=1)


def _expand_to_features(mask):
    """`(batch, images)` → `(batch, images, 1, 1, 1)`."""
    return ops.expand_dims(mask, axis=(2, 3, 4))
