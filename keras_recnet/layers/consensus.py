"""What the images of a group have in common, as similarity maps of each image."""

import keras
from keras import ops

EPSILON = 1e-3


@keras.saving.register_keras_serializable(package="keras_recnet")
class ImageSummary(keras.layers.Layer):
    """Mean and second moments of an image's embedding over its salient positions (ours).

    With the unit vectors e_p of the embedding and the saliency m_p at the positions p:
    `v = Σ_p m_p e_p / Σ_p m_p` and `C = Σ_p m_p e_p e_pᵀ / Σ_p m_p`. Always computed in float32.

    Input shape:
        A list: embedding `(batch, height, width, channels)`; saliency `(batch, height, width, 1)`, in 0…1.

    Output shape:
        A list: v, `(batch, channels)`; C, `(batch, channels, channels)`.

    Reference:
        Second-order pooling: Carreira et al., Semantic Segmentation with Second-Order Pooling, ECCV 2012.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs):
        embedding, saliency = (_positions(x) for x in inputs)
        weights = saliency / (ops.sum(saliency, axis=1, keepdims=True) + EPSILON)
        # Weighted after the transposition: LiteRT's converter would fold a transposition into the matrix product, and
        # GPU delegates ignore that.
        weighted = ops.transpose(embedding, (0, 2, 1)) * ops.reshape(weights, (-1, 1, weights.shape[1]))
        return [ops.sum(weighted, axis=-1), ops.matmul(weighted, embedding)]

    def compute_output_shape(self, input_shape):
        batch, *_, channels = input_shape[0]
        return [(batch, channels), (batch, channels, channels)]


@keras.saving.register_keras_serializable(package="keras_recnet")
class ConsensusMaps(keras.layers.Layer):
    """Similarity of every position of an image to the *other* images of its group (ours).

    The consensus of a group of N images is the mean of the v and C of `ImageSummary`. The image's own v and C are
    subtracted first, because each image is similar to itself. With the means c and M over the other images, the maps
    are

    - `e_p · c`,
    - `e_pᵀ M e_p`, which is high for everything that is frequent in the group, even if the mean c blurs it,
    - the cosine of v and c, the same for all positions: whether the image belongs to the group.

    All maps are 0 for a group of one. Always computed in float32.

    Input shape:
        A list: embedding `(batch, height, width, channels)`; v and C of the image; the sums of v and C over the group,
        `(batch, channels)` and `(batch, channels, channels)`; N, `(batch, 1)`.

    Output shape:
        `(batch, height, width, 3)`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs):
        embedding, vector, moments, vectors, all_moments, count = inputs
        height, width = embedding.shape[1:3]
        positions = _positions(embedding)
        others = ops.maximum(count - 1.0, EPSILON)
        mean = (vectors - vector) / others
        mean_moments = (all_moments - moments) / ops.expand_dims(others, -1)
        first = ops.matmul(positions, ops.expand_dims(mean, -1))
        second = ops.sum(ops.matmul(positions, mean_moments) * positions, axis=-1, keepdims=True)
        cosine = ops.sum(unit_length(vector) * unit_length(mean), axis=-1, keepdims=True)
        cosine = ops.tile(ops.expand_dims(cosine, 1), (1, height * width, 1))
        return ops.reshape(ops.concatenate([first, second, cosine], axis=-1), (-1, height, width, 3))

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], 3)


@keras.saving.register_keras_serializable(package="keras_recnet")
class UnitLength(keras.layers.Layer):
    """Scales vectors, the last axis of a tensor of any shape, to length 1. Always computed in float32."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs):
        return unit_length(inputs)


def unit_length(x):
    """Scale vectors to length 1; the zero vector stays zero."""
    # `x * x`, because LiteRT's converter turns a square into an operation that GPU delegates lack
    return x * ops.rsqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def _positions(x):
    """`(batch, height, width, channels)` → `(batch, positions, channels)`."""
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
