"""Between groups of images and batches of images."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class MergeGroups(keras.layers.Layer):
    """Lays the images of all groups one after another, so that a network for single images can take them.

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
    """The reverse of `MergeGroups`.

    Input shape:
        A list: `(batch · images, …)`, and any tensor `(batch, images, …)`, such as the mask, that tells the groups.

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
    """Gives each image what is known of its group.

    Input shape:
        A list: `(batch, …)`, one a group, and any tensor `(batch, images, …)`, such as the mask, that tells the groups.

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
