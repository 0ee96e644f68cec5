"""Backbones: image → dict of feature maps `"P1"` … `"P5"`, from fine to coarse.

Each is a functional Keras model that takes RGB in 0…255, holds its own preprocessing, and has an attribute `strides`,
a dict from the same names to how much smaller each map is than the image.
"""

import keras

from keras_recnet.backbones.efficientnet_lite0 import efficientnet_lite0
from keras_recnet.backbones.resnet50 import resnet50
from keras_recnet.backbones.vgg16 import vgg16

BACKBONES = {"resnet50": resnet50, "vgg16": vgg16, "efficientnet_lite0": efficientnet_lite0}

__all__ = ["BACKBONES", "build", "efficientnet_lite0", "resnet50", "vgg16"]


def build(name: str, image_size: int | tuple[int, int], **arguments) -> keras.Model:
    """Builds a backbone by its name in the registry `BACKBONES`.

    Args:
        name: `"resnet50"`, `"vgg16"` or `"efficientnet_lite0"`, or a name that was added to `BACKBONES`.
        image_size: height and width of the images.
        **arguments: passed to the builder: `weights`, `output_stride`, `freeze_batch_normalization`.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in BACKBONES:
        raise ValueError(f"`backbone` must be one of {tuple(BACKBONES)}. Received: backbone={name!r}")
    return BACKBONES[name](image_size, **arguments)
