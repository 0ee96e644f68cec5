"""A convolutional gated recurrent unit, the rival of the recurrent co-attention unit."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell, joint_start, linear


@keras.saving.register_keras_serializable(package="keras_recnet")
class ConvGRUCell(GroupCell):
    """One step of a gated recurrent unit with 1×1 convolutions over feature maps.

    With the state H and the image X:

    - `Z = sigmoid(W_z X + U_z H + b_z)`, `R = sigmoid(W_r X + U_r H + b_r)`,
    - `H̃ = tanh(W_h X + U_h (R ⊙ H) + b_h)`,
    - `H' = Z ⊙ H + (1 - Z) ⊙ H̃`.

    The paper compares with "the conventional recurrent unit GRU" and says no more; that the kernels are 1×1, as the
    paper's own gate is, and that the state starts as the first image is ours.

    Args:
        use_bias: whether there are biases.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        X: `(batch, H, W, C)`; states: a list of one `(batch, H, W, C)`, H.

    Output shape:
        H' and a list with it, `(batch, H, W, C)`.

    Raises:
        ValueError: if the features have no fixed size.

    Example:
        >>> features, state = keras.random.normal((2, 1, 14, 14, 192))
        >>> state, _ = ConvGRUCell()(features, [state])

    Reference:
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014; Ballas et al., "Delving Deeper
        into Convolutional Networks for Learning Video Representations", 2016; RCAU paper, Table 2, "Baseline+GRU".
    """

    def __init__(self, *, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.use_bias = use_bias

    def add_weights(self, height, width, channels):
        start = joint_start(2 * channels, channels, kernels=2)

        def kernel(name, columns):
            # one start for each gate: together they are wider than the convolution that each of them is
            parts = columns // channels

            def initializer(shape, dtype=None):
                return ops.concatenate([start.clone()((channels, channels), dtype) for _ in range(parts)], axis=-1)

            return self.add_weight(name=name, shape=(channels, columns), initializer=initializer)

        self.input_kernel = kernel("input_kernel", 3 * channels)  # of Z, R and H̃
        self.gates_kernel = kernel("gates_kernel", 2 * channels)  # of Z and R
        self.candidate_kernel = kernel("candidate_kernel", channels)
        self.bias = self.add_weight(name="bias", shape=(3 * channels,), initializer="zeros") if self.use_bias else None

    def prepare(self, inputs):
        """The products W X + b of both gates and the candidate: `(…, H, W, C)` → `(…, H, W, 3C)`."""
        return linear(inputs, self.input_kernel, self.bias)

    def step(self, prepared, state):
        update, reset, candidate = ops.split(prepared, 3, axis=-1)
        update_state, reset_state = ops.split(linear(state, self.gates_kernel), 2, axis=-1)
        update = ops.sigmoid(update + update_state)
        reset = ops.sigmoid(reset + reset_state)
        candidate = ops.tanh(candidate + linear(reset * state, self.candidate_kernel))
        return candidate + update * (state - candidate)

    def get_config(self):
        return {**super().get_config(), "use_bias": self.use_bias}
