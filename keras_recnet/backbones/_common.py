"""Checks, preprocessing and loading of pretrained weights shared by the backbones."""

import os

import keras
from keras import ops

from keras_recnet.errors import WeightsError

CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable(package="keras_recnet")
class CaffePreprocessing(keras.layers.Layer):
    """Converts RGB in 0…255 to the input of Caffe's ImageNet networks: BGR minus the mean color of ImageNet.

    Input shape:
        `(batch, height, width, 3)`, RGB in 0…255.

    Output shape:
        Same shape, BGR, approximately -124…152.

    Reference:
        `keras.applications.imagenet_utils.preprocess_input(mode="caffe")`.
    """

    def call(self, images):
        # No `ops.flip`, because GPU delegates do not support it.
        red, green, blue = ops.split(images, 3, axis=-1)
        bgr = ops.concatenate([blue, green, red], axis=-1)
        return bgr - ops.convert_to_tensor(CAFFE_MEAN_BGR, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def image_shape(image_size: int | tuple[int, int], stride: int) -> tuple[int, int, int]:
    """Return `(height, width, 3)` after checking that the image size is a multiple of the network's largest stride.

    Raises:
        ValueError: if the image size is not a positive multiple of `stride`.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if height <= 0 or width <= 0 or height % stride or width % stride:
        raise ValueError(
            f"`image_size` must be a positive multiple of the backbone's stride, {stride}. Received: "
            f"image_size={image_size!r}"
        )
    return height, width, 3


def side_outputs(name: str, inputs, layers: dict, strides: dict[str, int], freeze_batch_normalization: bool):
    """Build the model that maps an image to its side outputs, set `strides`, and optionally freeze normalization."""
    model = keras.Model(inputs, layers, name=name)
    if freeze_batch_normalization:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    model.strides = strides
    return model


def load_application_weights(model: keras.Model, application, weights: str | os.PathLike) -> None:
    """Copy the weights of each layer of a `keras.applications` network to the layer of `model` with the same name.

    Args:
        model: the backbone.
        application: constructor of the network, such as `keras.applications.VGG16`.
        weights: `"imagenet"` (downloaded by Keras), or the path of a file that the same network, built with
            `include_top=False`, wrote with `save_weights`.

    Raises:
        WeightsError: if the weights cannot be loaded or do not match.
    """
    name = application.__name__
    if weights == "imagenet":
        try:
            source = application(include_top=False, weights="imagenet")
        except Exception as error:  # Keras raises bare `Exception` for a failed download
            raise WeightsError(
                f"The ImageNet weights of {name} could not be downloaded ({error}). Set `backbone_weights` to the path "
                f"of a file written by `keras.applications.{name}(include_top=False).save_weights(...)` on a machine "
                f"with internet access, or to None for random weights."
            ) from error
    else:
        source = application(include_top=False, weights=None)
        if not os.path.isfile(weights):
            raise WeightsError(
                f"{weights}: no such file. `backbone_weights` must be 'imagenet', the path of a file, or None."
            )
        try:
            source.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"{weights}: not a weights file of {name} with include_top=False ({error}).") from error
    for layer in source.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
