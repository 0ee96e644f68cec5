"""Lets a map pass as far as its image agrees with its group."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class GroupGate(keras.layers.Layer):
    """Multiplies an image's map by the probability that what is salient in it is what its group is about (ours).

    `p = σ(z) σ(g)`, with z the map's logits and `g = a (cos(u, ū) - √(n - 1) / n) + b` from the image's
    `SalientDescriptor` u, the mean ū of those of its group, itself among them, and their number n. What is taken off
    the cosine is about what it would be if the n images had nothing in common, because the image is a part of the mean:
    much in a small group, nothing for a group of one, which agrees with itself. Only a and b are learned: a comparison
    of descriptors that know nothing of groups holds for objects that no training group shows, which a comparison of
    many learned weights does not.

    Args:
        scale: start of a.
        offset: start of b.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: logits `(batch, height, width, 1)`; u and ū, `(batch, channels)`; n, `(batch, 1)`.

    Output shape:
        The logits of the product, `(batch, height, width, 1)`.

    Example:
        >>> logits, images = keras.random.normal((2, 64, 64, 1)), keras.random.normal((2, 320))
        >>> mean = keras.ops.broadcast_to(keras.ops.mean(images, axis=0), (2, 320))
        >>> gated = GroupGate()([logits, images, mean, keras.ops.full((2, 1), 2.0)])
    """

    def __init__(self, *, scale=10.0, offset=-1.0, **kwargs):
        super().__init__(**kwargs)
        self.start_scale = scale
        self.start_offset = offset

    def build(self, input_shape):
        constant = keras.initializers.Constant
        self.scale = self.add_weight(name="scale", shape=(), initializer=constant(self.start_scale))
        self.offset = self.add_weight(name="offset", shape=(), initializer=constant(self.start_offset))

    def agreement(self, image, group, count):
        """g, the logit of the image's being of its group, `(batch, 1)`."""
        product, of_image, of_group = (
            ops.sum(left * right, axis=-1, keepdims=True)
            for left, right in ((image, group), (image, image), (group, group))
        )
        cosine = product * ops.rsqrt(of_image * of_group + 1e-12)
        by_chance = ops.sqrt(ops.maximum(count - 1, 0)) / ops.maximum(count, 1)
        return self.scale * (cosine - by_chance) + self.offset

    def call(self, inputs):
        logits, *compared = inputs
        gate = ops.reshape(self.agreement(*compared), (-1, 1, 1, 1))
        # z + g - log(1 + e^z + e^g), which is log p - log (1 - p), with the largest of the three taken out
        largest = ops.maximum(ops.maximum(logits, gate), 0.0)
        rest = ops.exp(-largest) + ops.exp(logits - largest) + ops.exp(gate - largest)
        return logits + gate - largest - ops.log(rest)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "scale": self.start_scale, "offset": self.start_offset}
