"""Models: RecNet for one image, RCAUNet for a group of images."""

import os

import keras

from keras_recnet.models.rcaunet import RCAUNet
from keras_recnet.models.recnet import RecNet
from keras_recnet.models.streaming import GroupMap

__all__ = ["GroupMap", "RCAUNet", "RecNet", "load_model"]


def load_model(path: str | os.PathLike, **arguments) -> keras.Model:
    """Loads a `.keras` file with models or layers of this library in it.

    The same as `keras.saving.load_model`, with all classes of this library registered before.

    Args:
        path: the `.keras` file.
        **arguments: passed to `keras.saving.load_model`.
    """
    from keras_recnet import losses, metrics, optimizers  # noqa: F401 (registers their classes)

    return keras.saving.load_model(path, **arguments)
