"""Dilated ResNet-50 as a backbone."""

import os

import keras

from keras_recnet.backbones._common import CaffePreprocessing, image_shape, load_application_weights, side_outputs

SIDE_OUTPUTS = ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
# dilation of the 3×3 convolutions of conv4 and conv5, by output stride
DILATIONS = {32: {"conv4": 1, "conv5": 1}, 16: {"conv4": 1, "conv5": 2}, 8: {"conv4": 2, "conv5": 4}}


def resnet50(
    image_size: int | tuple[int, int] = 384,
    *,
    weights: str | os.PathLike | None = "imagenet",
    output_stride: int = 8,
    freeze_batch_normalization: bool = True,
) -> keras.Model:
    """Build ResNet-50 with dilated 3×3 convolutions instead of strides in the last one or two stages.

    `P1` … `P5` are `conv1_relu` (stride 2, 64 channels), `conv2_block3_out` (4, 256), `conv3_block4_out` (8, 512),
    `conv4_block6_out` (1024) and `conv5_block3_out` (2048). By default, the last two also have stride 8, as in the
    RecNet paper. The dilation rates are ours; the paper does not state them. In Keras' ResNet-50, the first 1×1
    convolution of a stage has the stride, so all 3×3 convolutions of a dilated stage, including the first one, have the
    full dilation rate. The subsampled outputs then equal those of the original network.

    Args:
        image_size: height and width, multiples of `output_stride`.
        weights: `"imagenet"` (downloaded by Keras), the path of a weights file of
            `keras.applications.ResNet50(include_top=False)`, or None for random values.
        output_stride: 8, 16 or 32, the stride of `P5`.
        freeze_batch_normalization: use stored batch statistics in training too, and do not train scale and offset.

    Input shape:
        `(batch, height, width, 3)`, RGB in 0…255.

    Output shape:
        A dict of `(batch, height / stride, width / stride, channels)`.

    Raises:
        ValueError: if `image_size` or `output_stride` is invalid.
        WeightsError: if the weights cannot be loaded or do not match.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, 2016; RecNet paper, "Feature Extraction".
    """
    if output_stride not in DILATIONS:
        raise ValueError(
            f"`output_stride` must be one of {tuple(sorted(DILATIONS))}. Received: output_stride={output_stride!r}"
        )
    inputs = keras.Input(image_shape(image_size, output_stride), name="image")
    base = keras.applications.ResNet50(
        include_top=False, weights=None, input_tensor=CaffePreprocessing(name="preprocessing")(inputs)
    )
    dilations = DILATIONS[output_stride]

    def dilate(layer):
        config = layer.get_config()
        dilation = dilations.get(layer.name.split("_")[0], 1)
        if dilation > 1 and isinstance(layer, keras.layers.Conv2D):
            config["strides"] = (1, 1)
            if tuple(config["kernel_size"]) == (3, 3):
                config["dilation_rate"] = (dilation, dilation)
        return type(layer).from_config(config)

    dilated = keras.models.clone_model(base, clone_function=dilate)
    strides = {"P1": 2, "P2": 4, "P3": 8, "P4": min(16, output_stride), "P5": output_stride}
    outputs = {name: dilated.get_layer(layer).output for name, layer in zip(strides, SIDE_OUTPUTS, strict=True)}
    model = side_outputs("resnet50", dilated.inputs[0], outputs, strides, freeze_batch_normalization)
    if weights is not None:
        load_application_weights(model, keras.applications.ResNet50, weights)
    return model
