"""What stands out in an image, in one vector."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class SalientDescriptor(keras.layers.Layer):
    """The mean of an image's features over what is salient in it, standardised and of length 1 (ours).

    `d = Σ_p (s_p + ε) F_p / Σ_p (s_p + ε)` over the positions p, then `u = d̂ / |d̂|` with `d̂ = (d - μ) / σ`, by each
    channel's mean and deviation over the images seen in training. Without these all images point nearly the same way,
    because features of a network have means of their own.

    μ and σ are running: a training step computes with those of the steps before it, as prediction does, and then takes
    its images into them, those of padding too. The first steps weigh alike, later ones `1 - momentum`. Before any
    training μ is 0 and σ 1.

    Args:
        momentum: how much of the old values a step keeps, at most.
        epsilon: ε, the least weight of a position, so that an image in which nothing is salient has a mean too.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: features `(batch, height, width, channels)`; saliency `(batch, height, width, 1)`, 0…1.

    Output shape:
        `(batch, channels)`, vectors of length 1.

    Example:
        >>> features, saliency = keras.random.normal((2, 10, 10, 320)), keras.random.uniform((2, 10, 10, 1))
        >>> SalientDescriptor()([features, saliency]).shape
        (2, 320)
    """

    def __init__(self, *, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[0][-1]

        def running(name, size, start):
            return self.add_weight(name=f"moving_{name}", shape=size, initializer=start, trainable=False)

        self.mean = running("mean", (channels,), "zeros")
        self.square = running("square", (channels,), "ones")
        self.steps = running("steps", (), "zeros")

    def call(self, inputs, training=False):
        features, saliency = inputs
        weights = saliency + self.epsilon
        described = ops.sum(features * weights, axis=(1, 2)) / ops.sum(weights, axis=(1, 2))
        variance = ops.maximum(self.square - ops.square(self.mean), 1e-6)
        standard = (described - self.mean) * ops.rsqrt(variance)
        if training:
            self._take(ops.stop_gradient(described))
        # a product, as LiteRT's converter makes one operation of a square here, which phones' GPUs lack
        return standard * ops.rsqrt(ops.sum(standard * standard, axis=-1, keepdims=True) + 1e-6)

    def _take(self, described):
        self.steps.assign_add(1.0)
        share = ops.maximum(1 / self.steps, 1 - self.momentum)
        for running, values in ((self.mean, described), (self.square, ops.square(described))):
            running.assign_add(share * (ops.mean(values, axis=0) - running))

    def compute_output_shape(self, input_shape):
        features, _ = input_shape
        return features[0], features[-1]

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
