"""VGG-16 as a backbone."""

import os

import keras

from keras_recnet.backbones._common import CaffePreprocessing, image_shape, load_application_weights, side_outputs

STRIDES = {"P1": 1, "P2": 2, "P3": 4, "P4": 8, "P5": 16}
SIDE_OUTPUTS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")


def vgg16(
    image_size: int | tuple[int, int] = 224,
    *,
    weights: str | os.PathLike | None = "imagenet",
    output_stride: int = 16,
    freeze_batch_normalization: bool = True,
) -> keras.Model:
    """Build VGG-16 up to its last convolution.

    `P1` … `P5` are `block1_conv2`, `block2_conv2`, `block3_conv3`, `block4_conv3` and `block5_conv3`, with strides 1,
    2, 4, 8 and 16.

    Args:
        image_size: height and width, multiples of 16.
        weights: `"imagenet"` (downloaded by Keras), the path of a weights file of
            `keras.applications.VGG16(include_top=False)`, or None for random values.
        output_stride: must be 16.
        freeze_batch_normalization: has no effect, because VGG-16 has no batch normalization.

    Input shape:
        `(batch, height, width, 3)`, RGB in 0…255.

    Output shape:
        A dict of `(batch, height / stride, width / stride, channels)` with 64, 128, 256, 512, 512 channels.

    Raises:
        ValueError: if `image_size` or `output_stride` is invalid.
        WeightsError: if the weights cannot be loaded or do not match.

    Reference:
        Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.
    """
    if output_stride != STRIDES["P5"]:
        raise ValueError(f"`output_stride` of vgg16 must be 16. Received: output_stride={output_stride!r}")
    inputs = keras.Input(image_shape(image_size, STRIDES["P5"]), name="image")
    base = keras.applications.VGG16(
        include_top=False, weights=None, input_tensor=CaffePreprocessing(name="preprocessing")(inputs)
    )
    outputs = {name: base.get_layer(layer).output for name, layer in zip(STRIDES, SIDE_OUTPUTS, strict=True)}
    model = side_outputs("vgg16", inputs, outputs, STRIDES, freeze_batch_normalization)
    if weights is not None:
        load_application_weights(model, keras.applications.VGG16, weights)
    return model
