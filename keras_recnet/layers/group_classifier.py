"""Auxiliary classification of the objects of a group in training."""

import keras
from keras import ops

from keras_recnet.layers.consensus import unit_length

EPSILON = 1e-3


@keras.saving.register_keras_serializable(package="keras_recnet")
class GroupClassifier(keras.layers.Layer):
    """Returns the logits of a group's images unchanged, and adds a classification loss to the model.

    The embedding is averaged over the object of each image, given by its mask, and classified by its group with a
    cosine classifier: the cross-entropy of `scale · cos(v_n, w_k)` over the groups k, averaged over the images with an
    object. A consensus of few images then has to distinguish all groups of the training data, not only those of a
    batch. The class vectors w_k are used in training only.

    Args:
        classes: number of groups.
        weight: weight of the loss.
        scale: inverse temperature of the softmax.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: logits `(batch, images, height, width, 1)`; embedding `(batch, images, h, w, channels)`, where h and w
        divide height and width; masks of the objects, of the shape of the logits, in 0…1; number of the group,
        `(batch,)`, in 0…classes - 1.

    Output shape:
        That of the logits.

    Reference:
        Auxiliary classification: Fan et al., Group Collaborative Learning for Co-Salient Object Detection, CVPR 2021,
        Section 3.4, on features masked by the predicted maps.
    """

    def __init__(self, classes, weight=0.1, scale=12.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.classes = classes
        self.weight = weight
        self.scale = scale

    def build(self, input_shape):
        self.vectors = self.add_weight(
            shape=(input_shape[1][-1], self.classes), initializer="random_normal", name="vectors"
        )

    def call(self, inputs):
        logits, embedding, masks, group = inputs
        height, width, channels = embedding.shape[2:]
        pool = masks.shape[2] // height, masks.shape[3] // width
        # Keras' default strides fail on JAX for a tuple
        weights = ops.average_pool(ops.reshape(masks, (-1, *masks.shape[2:])), pool, strides=pool)
        embedding = ops.reshape(embedding, (-1, height, width, channels))
        mean = unit_length(ops.sum(weights * embedding, axis=(1, 2)))
        classes = self.scale * ops.matmul(mean, ops.transpose(unit_length(ops.transpose(self.vectors))))
        classes = ops.reshape(classes, (-1, ops.shape(logits)[1], self.classes))
        target = ops.expand_dims(ops.one_hot(ops.cast(group, "int32"), self.classes), 1)
        cross_entropy = -ops.sum(target * ops.log_softmax(classes, axis=-1), axis=-1)
        has_object = ops.cast(ops.any(masks > 0, axis=(2, 3, 4)), "float32")
        self.add_loss(self.weight * ops.sum(has_object * cross_entropy) / (ops.sum(has_object) + EPSILON))
        return logits

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "weight": self.weight, "scale": self.scale}
