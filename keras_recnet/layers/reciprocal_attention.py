"""Reciprocal attention between foreground and background features."""

import keras
from keras import ops

DIRECTIONS = ("both", "background", "foreground")
NORMALIZE = ("joint", "each")


@keras.saving.register_keras_serializable(package="keras_recnet")
class ReciprocalAttention(keras.layers.Layer):
    """Lets every foreground position look at all background positions, and the reverse.

    Four 1×1 convolutions with bias make values F1, B1 and keys F2, B2 of the foreground F and the background B. With
    `x_ij = exp(B2_i · F2_j) / Σ_i exp(B2_i · F2_j)` (Eq. 1: a softmax over the background positions i for each
    foreground position j),

    - `F+_j = β Σ_i x_ij B1_i + F_j` (Eq. 3: the background helps the foreground),
    - `B+_j = α Σ_i x_ji F1_i + B_j` (Eq. 2: the foreground helps the background; these weights are those of the same
      matrix and so not normalised over i).

    α and β are scalars that start at 0. The paper gives the convolutions 512 kernels and F's number of channels at
    once; here the keys have `key_channels` and the values keep the channels of their source, so that the sum with the
    residual is defined.

    Args:
        key_channels: channels of the keys F2 and B2.
        value_channels: None: values keep C channels. A number: values have so many and a further 1×1 convolution
            brings the result back to C, the other reading of the paper.
        normalize: `"joint"`: one softmax serves both directions (the paper). `"each"`: the background's weights
            get a softmax over the foreground positions, of the same scores.
        scale_scores: divide the scores by √key_channels (ours), which a random start with many channels needs.
        direction: `"both"`, or one way: `"background"` updates the background only (Eq. 3 off, the paper's
            "Background-RAM"), `"foreground"` the foreground only (Eq. 2 off, "Foreground-RAM").
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list `[F, B]`, each `(batch, H, W, C)`.

    Output shape:
        A list `[F+, B+]` of the same shapes.

    Raises:
        ValueError: if an argument is unknown or the two inputs differ in shape.

    Example:
        >>> foreground, background = keras.random.normal((2, 1, 28, 28, 320))
        >>> foreground, background = ReciprocalAttention(key_channels=64)([foreground, background])

    Reference:
        RecNet paper, "Reciprocal Attention Module", Eq. 1–3.
    """

    def __init__(
        self,
        *,
        key_channels=512,
        value_channels=None,
        normalize="joint",
        scale_scores=False,
        direction="both",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if normalize not in NORMALIZE:
            raise ValueError(f"`normalize` must be one of {NORMALIZE}. Received: normalize={normalize!r}")
        if direction not in DIRECTIONS:
            raise ValueError(f"`direction` must be one of {DIRECTIONS}. Received: direction={direction!r}")
        self.key_channels = key_channels
        self.value_channels = value_channels
        self.normalize = normalize
        self.scale_scores = scale_scores
        self.direction = direction

    def build(self, input_shape):
        foreground, background = input_shape
        if tuple(foreground) != tuple(background) or len(foreground) != 4:
            raise ValueError(
                f"`ReciprocalAttention` expects two inputs of one shape (batch, height, width, channels). "
                f"Received: input_shape={input_shape}"
            )
        channels = foreground[-1]

        def linear(name, filters, shape=foreground):
            layer = keras.layers.Conv2D(filters, 1, name=name, dtype=self.dtype_policy)
            layer.build(shape)
            return layer

        self.foreground_key = linear("foreground_key", self.key_channels)
        self.background_key = linear("background_key", self.key_channels)
        value_channels = self.value_channels or channels
        # each output needs the values of its source, a gain, and perhaps the way back to C channels
        if self.direction != "foreground":
            self.foreground_value = linear("foreground_value", value_channels)
            self.alpha = self.add_weight(name="alpha", shape=(), initializer="zeros")
            if self.value_channels:
                self.background_projection = linear(
                    "background_projection", channels, (*foreground[:-1], value_channels)
                )
        if self.direction != "background":
            self.background_value = linear("background_value", value_channels)
            self.beta = self.add_weight(name="beta", shape=(), initializer="zeros")
            if self.value_channels:
                self.foreground_projection = linear(
                    "foreground_projection", channels, (*foreground[:-1], value_channels)
                )

    def attention_weights(self, inputs):
        """The attention maps: which source position helps which target position, and how much.

        Args:
            inputs: the layer's input, `[F, B]`.

        Returns:
            A dict with the directions that the layer has. `"foreground"`: `(batch, P, P)`, float32, at `[n, j, i]` the
            weight x_ij of background position i for foreground position j; each row sums to 1. `"background"`: the
            same for the weight of foreground position i for background position j; its rows sum to 1 with
            `normalize="each"` only. Positions count row by row, P = H·W.
        """
        weights = self._weights(inputs)
        if self.normalize == "joint" and "background" in weights:
            weights["background"] = ops.transpose(weights["background"], (0, 2, 1))
        return weights

    def call(self, inputs):
        foreground, background = inputs
        weights = self._weights(inputs)
        outputs = [foreground, background]
        if "foreground" in weights:
            helped = self._gather("nji,nic->njc", weights["foreground"], self.background_value(background))
            if self.value_channels:
                helped = self.foreground_projection(helped)
            outputs[0] = foreground + ops.cast(self.beta, self.compute_dtype) * helped
        if "background" in weights:
            product = "nij,nic->njc" if self.normalize == "joint" else "nji,nic->njc"
            helped = self._gather(product, weights["background"], self.foreground_value(foreground))
            if self.value_channels:
                helped = self.background_projection(helped)
            outputs[1] = background + ops.cast(self.alpha, self.compute_dtype) * helped
        return outputs

    def _weights(self, inputs):
        """As `attention_weights`, but with `normalize="joint"` the background's are the foreground's very matrix.

        A transposed copy, and a softmax over another axis than the last, cost more than the product of the keys does.
        """
        foreground_keys = self._positions(self.foreground_key(inputs[0]))
        background_keys = self._positions(self.background_key(inputs[1]))
        directions = ("foreground", "background") if self.direction == "both" else (self.direction,)
        if self.normalize == "joint":
            return dict.fromkeys(directions, self._softmax(foreground_keys, background_keys))
        keys = {"foreground": (foreground_keys, background_keys), "background": (background_keys, foreground_keys)}
        return {direction: self._softmax(*keys[direction]) for direction in directions}

    def _softmax(self, target_keys, source_keys):
        # scaled before the product, so that float16 cannot overflow in it
        scale = self.key_channels**-0.5
        scores = ops.cast(ops.einsum("njk,nik->nji", target_keys * scale, source_keys), "float32")
        return ops.softmax(scores if self.scale_scores else scores / scale, axis=-1)

    def _gather(self, product, weights, values):
        height, width, channels = values.shape[1:]
        gathered = ops.einsum(product, ops.cast(weights, self.compute_dtype), self._positions(values))
        return ops.reshape(gathered, (-1, height, width, channels))

    @staticmethod
    def _positions(x):
        return ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))

    def compute_output_shape(self, input_shape):
        return [tuple(input_shape[0]), tuple(input_shape[1])]

    def get_config(self):
        return {
            **super().get_config(),
            "key_channels": self.key_channels,
            "value_channels": self.value_channels,
            "normalize": self.normalize,
            "scale_scores": self.scale_scores,
            "direction": self.direction,
        }
