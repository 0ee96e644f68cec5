"""Backbones: functional models from an image to a dict of feature maps, the side outputs `"P1"` … `"P5"`.

Side outputs are ordered from fine to coarse. Inputs are RGB in 0…255; preprocessing is part of the model. The attribute
`strides` is a dict of the side outputs' strides by name.
"""

import keras

from keras_recnet.backbones.efficientnet_lite0 import efficientnet_lite0
from keras_recnet.backbones.resnet50 import resnet50
from keras_recnet.backbones.vgg16 import vgg16

BACKBONES = {"resnet50": resnet50, "vgg16": vgg16, "efficientnet_lite0": efficientnet_lite0}

__all__ = ["BACKBONES", "build", "efficientnet_lite0", "resnet50", "vgg16"]


def build(name: str, image_size: int | tuple[int, int], **arguments) -> keras.Model:
    """Build a backbone by its name in the registry `BACKBONES`.

    Args:
        name: `"resnet50"`, `"vgg16"`, `"efficientnet_lite0"`, or a name added to `BACKBONES`.
        image_size: height and width of the images, an integer or a pair.
        **arguments: `weights`, `output_stride` and `freeze_batch_normalization`, passed to the builder.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in BACKBONES:
        raise ValueError(f"`backbone` must be one of {tuple(BACKBONES)}. Received: backbone={name!r}")
    return BACKBONES[name](image_size, **arguments)
