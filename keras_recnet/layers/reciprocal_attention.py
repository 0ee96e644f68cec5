"""Reciprocal attention between foreground and background features."""

import keras
from keras import ops

DIRECTIONS = ("both", "background", "foreground")
NORMALIZE = ("joint", "each")


@keras.saving.register_keras_serializable(package="keras_recnet")
class ReciprocalAttention(keras.layers.Layer):
    """Attention of every foreground position to all background positions, and vice versa.

    Four 1×1 convolutions with bias compute values F1, B1 and keys F2, B2 from the foreground features F and background
    features B. With `x_ij = exp(B2_i · F2_j) / Σ_i exp(B2_i · F2_j)` (Eq. 1, a softmax over background positions i for
    each foreground position j),

    - `F+_j = β Σ_i x_ij B1_i + F_j` (Eq. 3: background values update the foreground),
    - `B+_j = α Σ_i x_ji F1_i + B_j` (Eq. 2: foreground values update the background; the weights come from the same
      matrix and are therefore not normalized over i).

    α and β are scalars, initially 0. For the number of kernels, the paper states both 512 and the channels of F.
    Here keys have `key_channels` channels, and values have the channels of their source, so that the sum with the
    residual is defined.

    Args:
        key_channels: channels of the keys F2 and B2.
        value_channels: None: values have C channels. An integer: values have this many channels, and an additional 1×1
            convolution projects the result to C channels, the other reading of the paper.
        normalize: `"joint"`: one softmax for both directions (the paper). `"each"`: the background's weights are a
            softmax of the same scores over foreground positions.
        scale_scores: divide the scores by √key_channels (ours); necessary for random initial weights with many
            channels.
        direction: `"both"`, `"background"` (update only the background, without Eq. 3, the paper's "Background-RAM") or
            `"foreground"` (update only the foreground, without Eq. 2, "Foreground-RAM").
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list `[F, B]`, each `(batch, H, W, C)`.

    Output shape:
        A list `[F+, B+]` of the same shapes.

    Raises:
        ValueError: if an argument is invalid or the two inputs differ in shape.

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
        # each updated branch needs the values of the other branch, a gain and optionally a projection to C channels
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
        """Compute the attention weights.

        Args:
            inputs: the layer's input, `[F, B]`.

        Returns:
            A dict with one entry per direction of the layer, each `(batch, P, P)`, float32, for the P = H·W positions
            in row-major order. `"foreground"`: element `[n, j, i]` is the weight x_ij of background position i for
            foreground position j; rows sum to 1. `"background"`: the weight of foreground position i for background
            position j; rows sum to 1 only with `normalize="each"`.
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
            update = self._gather("nji,nic->njc", weights["foreground"], self.background_value(background))
            if self.value_channels:
                update = self.foreground_projection(update)
            outputs[0] = foreground + ops.cast(self.beta, self.compute_dtype) * update
        if "background" in weights:
            product = "nij,nic->njc" if self.normalize == "joint" else "nji,nic->njc"
            update = self._gather(product, weights["background"], self.foreground_value(foreground))
            if self.value_channels:
                update = self.background_projection(update)
            outputs[1] = background + ops.cast(self.alpha, self.compute_dtype) * update
        return outputs

    def _weights(self, inputs):
        """Same as `attention_weights`, but with `normalize="joint"` both directions share one untransposed matrix.

        Transposing it, or a softmax over an axis other than the last, would cost more than the product of the keys.
        """
        foreground_keys = self._positions(self.foreground_key(inputs[0]))
        background_keys = self._positions(self.background_key(inputs[1]))
        directions = ("foreground", "background") if self.direction == "both" else (self.direction,)
        if self.normalize == "joint":
            return dict.fromkeys(directions, self._softmax(foreground_keys, background_keys))
        keys = {"foreground": (foreground_keys, background_keys), "background": (background_keys, foreground_keys)}
        return {direction: self._softmax(*keys[direction]) for direction in directions}

    def _softmax(self, target_keys, source_keys):
        # scaled before the product, so that the product cannot overflow in float16
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
