"""What the backbones share: checks, preprocessing and the transfer of pretrained weights."""

import os

import keras
from keras import ops

from keras_recnet.errors import WeightsError

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable(package="keras_recnet")
class CaffePreprocessing(keras.layers.Layer):
    """Turns RGB 0…255 into what Caffe's ImageNet networks expect: BGR with the data set's mean colour taken off.

    Input shape:
        `(batch, height, width, 3)`, RGB in 0…255.

    Output shape:
        The same, BGR, about -124…152.

    Reference:
        `keras.applications.imagenet_utils.preprocess_input(mode="caffe")`.
    """

    def call(self, images):
        # Not `ops.flip`: phones' GPUs have no such operation.
        red, green, blue = ops.split(images, 3, axis=-1)
        bgr = ops.concatenate([blue, green, red], axis=-1)
        return bgr - ops.convert_to_tensor(CAFFE_MEAN_BGR, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def image_shape(image_size: int | tuple[int, int], stride: int) -> tuple[int, int, int]:
    """`(height, width, 3)` of an image size that must be a multiple of the network's largest stride.

    Raises:
        ValueError: if it is not.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if height <= 0 or width <= 0 or height % stride or width % stride:
        raise ValueError(
            f"`image_size` must be a positive multiple of the backbone's stride, {stride}. Received: "
            f"image_size={image_size!r}"
        )
    return height, width, 3


def side_outputs(name: str, inputs, layers: dict, strides: dict[str, int], freeze_batch_normalization: bool):
    """The functional model image → `{"P1": …, …, "P5": …}`, with `.strides` set and frozen statistics if wanted."""
    model = keras.Model(inputs, layers, name=name)
    if freeze_batch_normalization:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    model.strides = strides
    return model


def load_application_weights(model: keras.Model, application, weights: str | os.PathLike) -> None:
    """Copies the weights of a `keras.applications` network into the layers of `model` that have the same names.

    Args:
        model: the backbone.
        application: the constructor, such as `keras.applications.VGG16`.
        weights: `"imagenet"` to let Keras download them, or the path of a file that the same network without its top
            has written with `save_weights`.

    Raises:
        WeightsError: if they cannot be had or do not fit.
    """
    name = application.__name__
    if weights == "imagenet":
        try:
            source = application(include_top=False, weights="imagenet")
        except Exception as error:  # Keras raises bare `Exception` for a failed download
            raise WeightsError(
                f"The ImageNet weights of {name} could not be downloaded ({error}). Give `backbone_weights` the path "
                f"of a file that `keras.applications.{name}(include_top=False).save_weights(...)` wrote on a machine "
                f"with a network, or None for random weights."
            ) from error
    else:
        source = application(include_top=False, weights=None)
        if not os.path.isfile(weights):
            raise WeightsError(
                f"{weights}: no such file. `backbone_weights` is 'imagenet', the path of a file, or None."
            )
        try:
            source.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"{weights}: not the weights of {name} without its top ({error}).") from error
    for layer in source.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
