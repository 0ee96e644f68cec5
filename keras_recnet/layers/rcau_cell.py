"""The recurrent co-attention unit."""

import keras
from keras import ops

from keras_recnet.layers._group_cell import GroupCell, joint_glorot, linear


@keras.saving.register_keras_serializable(package="keras_recnet")
class RCAUCell(GroupCell):
    """Cell of the recurrent co-attention unit: updates the group representation G with the features X of an image.

    With the element-wise product `⊙`:

    - Reset gate (Eq. 4–5): `X̃ = X ⊙ sigmoid(W_d [G, X])`, a 1×1 convolution from 2C to C channels that removes features
      of the image that the group does not share.
    - Update gate of `Z = G - X` (Eq. 6–9): the spatial map `S = W_2s ReLU(W_1s z)` from the mean `z` of Z over
      channels, for P = H·W positions; the channel map `K = W_c z'` from the mean `z'` of Z over positions; the gate
      `A = sigmoid(S ⊗ K + b)`.
    - New state (Eq. 10): `G' = A ⊙ G + (1 - A) ⊙ X̃`.

    The equations have no biases. Without `b` the gate is initially close to 1/2, and the state forgets all but the last
    few images; `update_bias` adds `b`, one bias per channel. W_d is stored as two kernels, so that the product with X
    can be computed for the whole group at once.

    A built cell fits only one H×W, because of the dense layers over positions.

    Args:
        use_reset_gate: False: `X̃ = X` (row "-g_d" of Table 2).
        use_spatial_attention: False: the update gate is `sigmoid(K + b)` (row "c" of Table 2).
        use_channel_attention: False: the update gate is `sigmoid(S + b)` (row "s" of Table 2). If both are False, it is
            `sigmoid(b)`, or 1/2 without a bias.
        use_bias: add biases to W_d, W_1s, W_2s and W_c; the paper has none.
        spatial_reduction: W_1s has P / `spatial_reduction` outputs; the paper does not state the number.
        update_bias: None (the paper), or the initial value of the trainable bias `b` (ours).
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        X: `(batch, H, W, C)`; states: a list with G, `(batch, H, W, C)`.

    Output shape:
        G' and a list with G', `(batch, H, W, C)`.

    Raises:
        ValueError: if the features have no fixed size, or `spatial_reduction` is not in 1…P.

    Example:
        >>> cell = RCAUCell(update_bias=1.5)
        >>> features, state = keras.random.normal((2, 1, 14, 14, 192))
        >>> state, _ = cell(features, [state])

    Reference:
        RCAU paper, Section 2.3, Eq. 3–10 and Fig. 2; Table 2 for the ablations.
    """

    def __init__(
        self,
        *,
        use_reset_gate=True,
        use_spatial_attention=True,
        use_channel_attention=True,
        use_bias=False,
        spatial_reduction=1,
        update_bias=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not (isinstance(spatial_reduction, int) and spatial_reduction >= 1):
            raise ValueError(
                f"`spatial_reduction` must be a positive integer. Received: spatial_reduction={spatial_reduction!r}"
            )
        self.use_reset_gate = use_reset_gate
        self.use_spatial_attention = use_spatial_attention
        self.use_channel_attention = use_channel_attention
        self.use_bias = use_bias
        self.spatial_reduction = spatial_reduction
        self.update_bias = update_bias

    def add_weights(self, height, width, channels):
        positions = height * width
        hidden = positions // self.spatial_reduction
        if not hidden:
            raise ValueError(
                f"`spatial_reduction` must be at most the number of positions, {positions}. Received: "
                f"spatial_reduction={self.spatial_reduction!r}"
            )

        def kernel(name, rows, columns, initializer="glorot_uniform"):
            return self.add_weight(name=f"{name}_kernel", shape=(rows, columns), initializer=initializer)

        def bias(name, size):
            return self.add_weight(name=f"{name}_bias", shape=(size,), initializer="zeros") if self.use_bias else None

        if self.use_reset_gate:
            glorot = joint_glorot(2 * channels, channels, kernels=2)
            self.reset_state_kernel = kernel("reset_state", channels, channels, glorot)
            self.reset_input_kernel = kernel("reset_input", channels, channels, glorot.clone())
            self.reset_bias = bias("reset", channels)
        if self.use_spatial_attention:
            self.spatial_kernels = [kernel("spatial_1", positions, hidden), kernel("spatial_2", hidden, positions)]
            self.spatial_biases = [bias("spatial_1", hidden), bias("spatial_2", positions)]
        if self.use_channel_attention:
            self.channel_kernel = kernel("channel", channels, channels)
            self.channel_bias = bias("channel", channels)
        if self.update_bias is not None:
            self.update_bias_weight = self.add_weight(
                name="update_bias", shape=(channels,), initializer=keras.initializers.Constant(self.update_bias)
            )

    def prepare(self, inputs):
        """Concatenate X and, if there is a reset gate, the product of X with W_d: `(…, H, W, C)` → `(…, H, W, 2C)`."""
        if not self.use_reset_gate:
            return inputs
        return ops.concatenate([inputs, linear(inputs, self.reset_input_kernel, self.reset_bias)], axis=-1)

    def step(self, prepared, state):
        inputs = prepared
        reset = inputs
        if self.use_reset_gate:
            inputs, product = ops.split(prepared, 2, axis=-1)
            reset = inputs * ops.sigmoid(product + linear(state, self.reset_state_kernel))
        gate = self.update_gate(state - inputs)
        return reset + gate * (state - reset)

    def update_gate(self, difference):
        """Compute the update gate A in 0…1, `(batch, H, W, C)` or a shape that broadcasts to it."""
        _, height, width, channels = difference.shape
        spatial = channel = None
        if self.use_spatial_attention:
            spatial = ops.reshape(ops.mean(difference, axis=-1), (-1, height * width))
            spatial = ops.relu(linear(spatial, self.spatial_kernels[0], self.spatial_biases[0]))
            spatial = linear(spatial, self.spatial_kernels[1], self.spatial_biases[1])
        if self.use_channel_attention:
            channel = linear(ops.mean(difference, axis=(1, 2)), self.channel_kernel, self.channel_bias)
        if spatial is None and channel is None:
            logits = ops.zeros_like(difference)
        elif channel is None:
            logits = ops.reshape(spatial, (-1, height, width, 1))
        elif spatial is None:
            logits = ops.reshape(channel, (-1, 1, 1, channels))
        else:
            # S ⊗ K as a matrix product: GPU delegates cannot multiply two tensors that are both broadcast.
            logits = ops.matmul(ops.expand_dims(spatial, -1), ops.expand_dims(channel, 1))
            logits = ops.reshape(logits, (-1, height, width, channels))
        if self.update_bias is not None:
            logits = logits + self.update_bias_weight
        return ops.sigmoid(logits)

    def get_config(self):
        return {
            **super().get_config(),
            "use_reset_gate": self.use_reset_gate,
            "use_spatial_attention": self.use_spatial_attention,
            "use_channel_attention": self.use_channel_attention,
            "use_bias": self.use_bias,
            "spatial_reduction": self.spatial_reduction,
            "update_bias": self.update_bias,
        }
