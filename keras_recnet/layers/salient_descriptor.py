"""A vector that describes the salient part of an image."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class SalientDescriptor(keras.layers.Layer):
    """Saliency-weighted mean of an image's features, whitened and normalized to length 1 (ours).

    `d = Σ_p (s_p + ε) F_p / Σ_p (s_p + ε)` over positions p, then `u = d̂ / |d̂|` with `d̂ = W (d - μ)`. The mean μ and
    the whitening matrix W are fitted to the vectors d of many images, see `adapt`. Without whitening the vectors of all
    images have nearly the same direction, because features have nonzero means and are correlated. Before `adapt`, μ is
    zero and W the identity.

    Args:
        epsilon: ε, the minimum weight of a position, so that the mean is defined for images without salient pixels.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: features `(batch, height, width, channels)`; saliency `(batch, height, width, 1)`, in 0…1.

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
        """Compute d, `(batch, channels)`."""
        weights = saliency + self.epsilon
        return ops.sum(features * weights, axis=(1, 2)) / ops.sum(weights, axis=(1, 2))

    def adapt(self, described: np.ndarray, *, shrinkage: float = 1.0) -> None:
        """Fit μ and W.

        Channels are divided by their standard deviation; with their correlation matrix R, `W W' = (R + s I)⁻¹`. The
        shrinkage s limits the amplification of directions with little variance to 1 / √s.

        Args:
            described: vectors d of many images, `(images, channels)`, see `describe`.
            shrinkage: s, greater than 0.

        Raises:
            ValueError: if there are fewer than two images.
        """
        described = np.asarray(described, np.float64)
        if described.ndim != 2 or len(described) < 2:
            raise ValueError(
                f"`described` must contain vectors of at least two images. Received: described.shape={described.shape}"
            )
        mean, deviation = described.mean(axis=0), described.std(axis=0) + 1e-6
        standard = (described - mean) / deviation
        correlations = standard.T @ standard / len(standard) + shrinkage * np.eye(len(mean))
        # any square root of the inverse gives the same cosines
        self.whitening.assign(np.linalg.inv(np.linalg.cholesky(correlations)).T / deviation[:, None])
        self.mean.assign(mean)

    def call(self, inputs):
        white = ops.matmul(self.describe(*inputs) - self.mean, self.whitening)
        # `white * white`, because LiteRT's converter turns a square into an operation that GPU delegates lack
        return white * ops.rsqrt(ops.sum(white * white, axis=-1, keepdims=True) + 1e-6)

    def compute_output_shape(self, input_shape):
        features, _ = input_shape
        return features[0], features[-1]

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
