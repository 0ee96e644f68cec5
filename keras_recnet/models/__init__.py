"""Models: RecNet for one image, RCAUNet for a group of images."""

import os

import keras

from keras_recnet import presets
from keras_recnet.models.rcaunet import RCAUNet
from keras_recnet.models.recnet import RecNet

__all__ = ["RCAUNet", "RecNet", "from_preset", "load_model"]


def from_preset(name_or_folder: str | os.PathLike, **overrides) -> RecNet | RCAUNet:
    """Build the model of a preset, whichever task it is for; see `RecNet.from_preset`."""
    task = presets.find(name_or_folder).task
    (cls,) = (cls for cls in (RecNet, RCAUNet) if cls.task == task)
    return cls.from_preset(name_or_folder, **overrides)


def load_model(path: str | os.PathLike, **arguments) -> keras.Model:
    """Loads a `.keras` file with models or layers of this library in it.

    The same as `keras.saving.load_model`, with all classes of this library registered before.

    Args:
        path: the `.keras` file.
        **arguments: passed to `keras.saving.load_model`.
    """
    from keras_recnet import losses, metrics, optimizers  # noqa: F401 (registers their classes)

    return keras.saving.load_model(path, **arguments)
