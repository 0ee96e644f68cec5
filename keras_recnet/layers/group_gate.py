"""Gates a map by the similarity of its image to the group."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class GroupGate(keras.layers.Layer):
    """Multiplies an image's map by the probability that its salient object is the group's object (ours).

    `p = σ(z) σ(g)`, where z are the logits of the map and `g = a (cos(u, ū) - √(n - 1) / n) + b`. Here u is the image's
    `SalientDescriptor`, ū the mean descriptor of the group, including this image, and n the number of images. The term
    √(n - 1) / n approximates the cosine for n unrelated images, which is not 0 because the image is part of the mean.
    The term is large in a small group, and 0 for a single image. Only a and b are learned. Descriptors not trained on
    groups generalize to objects that are in no training group; a comparison with many learned weights did not.

    Args:
        scale: initial value of a.
        offset: initial value of b.
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
        self.initial_scale = scale
        self.initial_offset = offset

    def build(self, input_shape):
        constant = keras.initializers.Constant
        self.scale = self.add_weight(name="scale", shape=(), initializer=constant(self.initial_scale))
        self.offset = self.add_weight(name="offset", shape=(), initializer=constant(self.initial_offset))

    def agreement(self, image, group, count):
        """Compute g, the logit that an image belongs to its group, `(batch, 1)`."""
        product, image_square, group_square = (
            ops.sum(left * right, axis=-1, keepdims=True)
            for left, right in ((image, group), (image, image), (group, group))
        )
        cosine = product * ops.rsqrt(image_square * group_square + 1e-12)
        unrelated = ops.sqrt(ops.maximum(count - 1, 0)) / ops.maximum(count, 1)
        return self.scale * (cosine - unrelated) + self.offset

    def call(self, inputs):
        logits, image, group, count = inputs
        gate = ops.reshape(self.agreement(image, group, count), (-1, 1, 1, 1))
        # log p - log (1 - p) = z + g - log(1 + e^z + e^g), with the largest exponent factored out
        largest = ops.maximum(ops.maximum(logits, gate), 0.0)
        rest = ops.exp(-largest) + ops.exp(logits - largest) + ops.exp(gate - largest)
        return logits + gate - largest - ops.log(rest)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "scale": self.initial_scale, "offset": self.initial_offset}
