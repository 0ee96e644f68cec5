"""Base class of recurrent cells over groups of images."""

import keras
from keras import ops


class GroupCell(keras.layers.Layer):
    """A Keras RNN cell whose state is a feature map, and which can multiply all images by its input kernels at once.

    Subclasses implement `step`, and `add_weights` and `prepare` if the defaults do not fit. `GroupRNN` calls `prepare`
    for the whole group before its loop, and `step` for each image.

    The state has the shape of the features; `state_size` is `[(H, W, C)]` once the cell is built.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = [(None, None, None)]  # known when the cell is built

    def add_weights(self, height, width, channels):
        """Create the weights."""

    def prepare(self, inputs):
        """Compute everything that depends on the images alone: the features and their products with kernels.

        Args:
            inputs: `(…, H, W, C)` with any number of leading dimensions.

        Returns:
            `(…, H, W, prepared channels)`.
        """
        return inputs

    def step(self, prepared, state):
        """Compute the next state from the result of `prepare` for one image and the current state."""
        raise NotImplementedError

    def build(self, inputs_shape, states_shape=None):
        height, width, channels = inputs_shape[-3:]
        if len(inputs_shape) != 4 or None in (height, width, channels):
            raise ValueError(
                f"`{type(self).__name__}` expects features (batch, height, width, channels) of fixed size. Received: "
                f"inputs_shape={inputs_shape}"
            )
        self.channels = channels
        self.state_size = [(height, width, channels)]
        self.add_weights(height, width, channels)

    def call(self, inputs, states):
        prepared = self.prepare(inputs) if inputs.shape[-1] == self.channels else inputs
        state = self.step(prepared, states[0])
        return state, [state]

    def compute_output_shape(self, inputs_shape, states_shape=None):
        return tuple(inputs_shape), [tuple(inputs_shape)]


def linear(x, kernel, bias=None):
    """Compute `x · kernel + bias` over the last axis as a single matrix product, for any number of dimensions."""
    shape = tuple(x.shape[1:-1])
    leading = ops.shape(x)[:-1] if None in shape else (-1, *shape)
    product = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    if bias is not None:
        product = product + bias
    return ops.reshape(product, (*leading, kernel.shape[-1]))


def joint_glorot(inputs, outputs, kernels):
    """Glorot uniform initializer for a convolution whose kernel is stored as several kernels.

    The convolution has `inputs` input and `outputs` output channels. Each of the `kernels` parts has `inputs / kernels`
    rows; Glorot initialization of each part on its own would give the sum of their outputs too large a variance.
    """
    scale = (inputs / kernels + outputs) / (inputs + outputs)
    return keras.initializers.VarianceScaling(scale, mode="fan_avg", distribution="uniform")
