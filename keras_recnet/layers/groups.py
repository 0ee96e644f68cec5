"""Conversion between groups of images and batches of images."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class MergeGroups(keras.layers.Layer):
    """Merges the batch and image dimensions, so that a network for single images can process groups.

    Input shape:
        `(batch, images, …)`.

    Output shape:
        `(batch · images, …)`.
    """

    def call(self, inputs):
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape):
        batch, images, *rest = input_shape
        return (None if batch is None or images is None else batch * images, *rest)


@keras.saving.register_keras_serializable(package="keras_recnet")
class SplitGroups(keras.layers.Layer):
    """Splits merged images into groups, the inverse of `MergeGroups`.

    Input shape:
        A list: `(batch · images, …)`, and any tensor `(batch, images, …)` that defines the groups, such as the mask.

    Output shape:
        `(batch, images, …)`.
    """

    def call(self, inputs):
        merged, groups = inputs
        return ops.reshape(merged, (*ops.shape(groups)[:2], *merged.shape[1:]))

    def compute_output_shape(self, input_shape):
        merged, groups = input_shape
        return (*groups[:2], *merged[1:])


@keras.saving.register_keras_serializable(package="keras_recnet")
class BroadcastGroups(keras.layers.Layer):
    """Repeats each group's tensor for all images of the group.

    Input shape:
        A list: `(batch, …)`, and any tensor `(batch, images, …)` that defines the groups, such as the mask.

    Output shape:
        `(batch · images, …)`, in the order of `MergeGroups`.

    Reference:
        RCAU paper, Section 2.4, "the group feature is then broadcasted to each individual image".
    """

    def call(self, inputs):
        group, groups = inputs
        shape = (*ops.shape(groups)[:2], *group.shape[1:])
        return ops.reshape(ops.broadcast_to(ops.expand_dims(group, axis=1), shape), (-1, *group.shape[1:]))

    def compute_output_shape(self, input_shape):
        group, (batch, images, *_) = input_shape
        return (None if batch is None or images is None else batch * images, *group[1:])


@keras.saving.register_keras_serializable(package="keras_recnet")
class SumGroups(keras.layers.Layer):
    """Sums a tensor over the images of each group, without padding. Always computed in float32.

    Input shape:
        A list: `(batch, images, …)`; the mask `(batch, images)`, False for padding.

    Output shape:
        `(batch, …)`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs):
        x, mask = inputs
        mask = ops.reshape(mask, (*ops.shape(mask), *(1,) * (len(x.shape) - 2)))
        # `where` and not a product, because padding may contain anything
        return ops.sum(ops.where(ops.cast(mask, "bool"), x, 0.0), axis=1)

    def compute_output_shape(self, input_shape):
        batch, _, *rest = input_shape[0]
        return (batch, *rest)
