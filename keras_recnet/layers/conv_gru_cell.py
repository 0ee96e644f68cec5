"""A convolutional gated recurrent unit, the baseline of the recurrent co-attention unit."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell, joint_glorot, linear


@keras.saving.register_keras_serializable(package="keras_recnet")
class ConvGRUCell(GroupCell):
    """Cell of a gated recurrent unit with 1×1 convolutions over feature maps.

    With the state H and the image features X:

    - `Z = sigmoid(W_z X + U_z H + b_z)`, `R = sigmoid(W_r X + U_r H + b_r)`,
    - `H̃ = tanh(W_h X + U_h (R ⊙ H) + b_h)`,
    - `H' = Z ⊙ H + (1 - Z) ⊙ H̃`.

    The paper compares with "the conventional recurrent unit GRU" without details. The 1×1 kernels (as in the paper's
    own gate) and the initial state, the features of the first image, are ours.

    Input shape:
        X: `(batch, H, W, C)`; states: a list with H, `(batch, H, W, C)`.

    Output shape:
        H' and a list with H', `(batch, H, W, C)`.

    Raises:
        ValueError: if the features have no fixed size.

    Example:
        >>> features, state = keras.random.normal((2, 1, 14, 14, 192))
        >>> state, _ = ConvGRUCell()(features, [state])

    Reference:
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014; Ballas et al., "Delving Deeper
        into Convolutional Networks for Learning Video Representations", 2016; RCAU paper, Table 2, "Baseline+GRU".
    """

    def add_weights(self, height, width, channels):
        glorot = joint_glorot(2 * channels, channels, kernels=2)

        def kernel(name, columns):
            # initialized per gate, because the fan of the joint kernel would be too large
            gates = columns // channels

            def initializer(shape, dtype=None):
                return ops.concatenate([glorot.clone()((channels, channels), dtype) for _ in range(gates)], axis=-1)

            return self.add_weight(name=name, shape=(channels, columns), initializer=initializer)

        self.input_kernel = kernel("input_kernel", 3 * channels)  # of Z, R and H̃
        self.gates_kernel = kernel("gates_kernel", 2 * channels)  # of Z and R
        self.candidate_kernel = kernel("candidate_kernel", channels)
        self.bias = self.add_weight(name="bias", shape=(3 * channels,), initializer="zeros")

    def prepare(self, inputs):
        """Compute W X + b for both gates and the candidate: `(…, H, W, C)` → `(…, H, W, 3C)`."""
        return linear(inputs, self.input_kernel, self.bias)

    def step(self, prepared, state):
        update, reset, candidate = ops.split(prepared, 3, axis=-1)
        update_state, reset_state = ops.split(linear(state, self.gates_kernel), 2, axis=-1)
        update = ops.sigmoid(update + update_state)
        reset = ops.sigmoid(reset + reset_state)
        candidate = ops.tanh(candidate + linear(reset * state, self.candidate_kernel))
        return candidate + update * (state - candidate)
