"""What stands out in an image, in one vector."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class SalientDescriptor(keras.layers.Layer):
    """The mean of an image's features over what is salient in it, whitened and of length 1 (ours).

    `d = Σ_p (s_p + ε) F_p / Σ_p (s_p + ε)` over the positions p, then `u = d̂ / |d̂|` with `d̂ = W (d - μ)`. The mean μ
    and the whitening W are those of many images' d: see `adapt`. Without them all images point nearly the same way,
    because features of a network have means of their own and vary together. Before `adapt` μ is 0 and W is 1.

    Args:
        epsilon: ε, the least weight of a position, so that an image in which nothing is salient has a mean too.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: features `(batch, height, width, channels)`; saliency `(batch, height, width, 1)`, 0…1.

    Output shape:
        `(batch, channels)`, vectors of length 1.

    Example:
        >>> features, saliency = keras.random.normal((500, 10, 10, 32)), keras.random.uniform((500, 10, 10, 1))
        >>> layer = SalientDescriptor()
        >>> layer.build([features.shape, saliency.shape])
        >>> layer.adapt(keras.ops.convert_to_numpy(layer.describe(features, saliency)))
        >>> layer([features, saliency]).shape
        (500, 32)

    Reference:
        Whitened descriptors and their cosine: Jégou and Chum, Negative evidences and co-occurences in image retrieval:
        the benefit of PCA and whitening, ECCV 2012.
    """

    def __init__(self, *, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[0][-1]
        self.mean = self.add_weight(name="mean", shape=(channels,), initializer="zeros", trainable=False)
        self.whitening = self.add_weight(
            name="whitening", shape=(channels, channels), initializer="identity", trainable=False
        )

    def describe(self, features, saliency):
        """d, `(batch, channels)`."""
        weights = saliency + self.epsilon
        return ops.sum(features * weights, axis=(1, 2)) / ops.sum(weights, axis=(1, 2))

    def adapt(self, described: np.ndarray, *, shrinkage: float = 1.0) -> None:
        """Sets μ and W.

        `W W' = (R + s 1)⁻¹` of each channel divided by its deviation, R their correlations: directions in which images
        vary little are not blown up to more than 1 / √s.

        Args:
            described: the d of many images, `(images, channels)`.
            shrinkage: s, above 0.

        Raises:
            ValueError: if there are fewer than two images.
        """
        described = np.asarray(described, np.float64)
        if described.ndim != 2 or len(described) < 2:
            raise ValueError(
                f"`described` must be vectors of two images or more. Received: described.shape={described.shape}"
            )
        mean, deviation = described.mean(axis=0), described.std(axis=0) + 1e-6
        standard = (described - mean) / deviation
        correlations = standard.T @ standard / len(standard) + shrinkage * np.eye(len(mean))
        # the cosine is the same in whichever basis
        self.whitening.assign(np.linalg.inv(np.linalg.cholesky(correlations)).T / deviation[:, None])
        self.mean.assign(mean)

    def call(self, inputs):
        white = ops.matmul(self.describe(*inputs) - self.mean, self.whitening)
        # a product, as LiteRT's converter makes one operation of a square here, which phones' GPUs lack
        return white * ops.rsqrt(ops.sum(white * white, axis=-1, keepdims=True) + 1e-6)

    def compute_output_shape(self, input_shape):
        features, _ = input_shape
        return features[0], features[-1]

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
