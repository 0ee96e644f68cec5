"""What the cells that walk over a group of images share."""

import keras
from keras import ops


class GroupCell(keras.layers.Layer):
    """A Keras RNN cell whose state is a feature map, and whose product with the inputs can be taken beforehand.

    A subclass gives three methods and, if they differ from these, `start`, `representation` and `state_channels`:

    - `add_weights(height, width, channels)`,
    - `prepare(inputs)`: all that needs the images alone, for any number of leading dimensions, as one tensor: the
      features themselves and their products with the cell's kernels. `GroupRNN` takes it of the whole group at once,
      outside of its loop,
    - `step(prepared, state)`: the next state.

    `state_size` is `[(H, W, C)]` from `build` on.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = [(None, None, None)]  # known when the cell is built

    def state_channels(self, channels):
        """Channels of the state for images of `channels`."""
        return channels

    def add_weights(self, height, width, channels):
        """Makes the weights."""

    def prepare(self, inputs):
        """`(…, H, W, C)` → `(…, H, W, prepared channels)`."""
        return inputs

    def step(self, prepared, state):
        """The state after one more image, from the image's `prepare` and the state before."""
        raise NotImplementedError

    def start(self, first):
        """The state before the group's first image, G_0 = X_1 (ours for cells other than the paper's)."""
        return first

    def representation(self, state):
        """`(…, H, W, C)`: what the state says of the group."""
        return state

    def build(self, inputs_shape, states_shape=None):
        height, width, channels = inputs_shape[-3:]
        if len(inputs_shape) != 4 or None in (height, width, channels):
            raise ValueError(
                f"`{type(self).__name__}` expects features (batch, height, width, channels) of known size. Received: "
                f"inputs_shape={inputs_shape}"
            )
        self.channels = channels
        self.state_size = [(height, width, self.state_channels(channels))]
        self.add_weights(height, width, channels)

    def call(self, inputs, states):
        prepared = self.prepare(inputs) if inputs.shape[-1] == self.channels else inputs
        state = self.step(prepared, states[0])
        return self.representation(state), [state]

    def get_initial_state(self, batch_size=None):
        """Zeros; `GroupRNN` asks `start` instead."""
        return [ops.zeros((batch_size, *self.state_size[0]), dtype=self.compute_dtype)]

    def compute_output_shape(self, inputs_shape, states_shape=None):
        *leading, channels = inputs_shape
        return (*leading, channels), [(*leading, self.state_channels(channels))]


def linear(x, kernel, bias=None):
    """`x · kernel + bias` over the last axis, as one product of matrices, however many dimensions `x` has."""
    shape = tuple(x.shape[1:-1])
    leading = ops.shape(x)[:-1] if None in shape else (-1, *shape)
    product = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    if bias is not None:
        product = product + bias
    return ops.reshape(product, (*leading, kernel.shape[-1]))


def joint_start(inputs, outputs, kernels):
    """Glorot's uniform start of one convolution with `inputs` → `outputs` channels that is stored in `kernels` parts.

    Each part has `inputs / kernels` rows; Glorot's start of a part alone would be too wide for their sum.
    """
    scale = (inputs / kernels + outputs) / (inputs + outputs)
    return keras.initializers.VarianceScaling(scale, mode="fan_avg", distribution="uniform")
