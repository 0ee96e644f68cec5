"""Models: `RecNet` for single images, `RCAUNet` for groups of images."""

import os

import keras

from keras_recnet import presets
from keras_recnet.models.rcaunet import RCAUNet
from keras_recnet.models.recnet import RecNet

__all__ = ["RCAUNet", "RecNet", "from_preset", "load_model"]


def from_preset(name_or_folder: str | os.PathLike, **overrides) -> RecNet | RCAUNet:
    """Build the model of a preset, a `RecNet` or an `RCAUNet` depending on the preset's task, and load its weights.

    Args:
        name_or_folder: name of a preset that ships with the library, or a folder written by `save_to_preset`.
        **overrides: constructor arguments to change, such as `image_size`; see `RecNet.from_preset`.

    Raises:
        PresetError: if the preset does not exist or is damaged, or if its weights do not fit.

    Example:
        >>> model = from_preset("recnet_lite0", image_size=256)
    """
    models = {model.task: model for model in (RecNet, RCAUNet)}
    return models[presets.find(name_or_folder).task].from_preset(name_or_folder, **overrides)


def load_model(path: str | os.PathLike, **arguments) -> keras.Model:
    """Load a `.keras` file that contains models or layers of this library.

    Same as `keras.saving.load_model`, after registering all classes of this library.

    Args:
        path: the `.keras` file.
        **arguments: passed to `keras.saving.load_model`.
    """
    from keras_recnet import losses, metrics, optimizers  # noqa: F401 (registers their classes)

    return keras.saving.load_model(path, **arguments)
