"""Training task: the data, models and loss for one kind of network."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from keras_recnet import presets
from keras_recnet.errors import ConfigError, PresetError
from keras_recnet.training.config.loading import Config, names_backbone_weights
from keras_recnet.training.data import Data

if TYPE_CHECKING:
    import keras


class TrainingTask:
    """Base of the training tasks.

    Args:
        config: the whole configuration.

    Attributes:
        usage: arguments of `keras-recnet` that apply the trained preset.
        unit: what a batch consists of, in the plural.
    """

    usage: str
    unit: str

    def __init__(self, config: Config):
        self.config = config

    def find_files(self, output: Path) -> tuple[list, list]:
        """Find and check the training and the validation files.

        Args:
            output: the run's folder, where synthetic images are written.

        Raises:
            ConfigError: if the `data` section specifies no files, or too few for a batch.
            DataError: naming every file that cannot be used.
        """
        raise NotImplementedError

    def check_keys(self) -> None:
        """Check that the keys of the configuration fit together.

        Raises:
            ConfigError: with all conflicts.
        """

    def steps_per_epoch(self, training: list) -> int:
        """Return the steps per epoch with the training files of `find_files`."""
        return len(training) // self.config.batch_size

    def build_model(self) -> "keras.Model":
        """Build the network with its initial weights.

        Raises:
            ConfigError: if the arguments in `model` are invalid, or contradict the preset in `init`.
            PresetError: if the preset in `init` does not exist.
            WeightsError: if the weights are missing or do not fit.
        """
        from keras_recnet import models

        arguments = self.config.model.model_dump(exclude_unset=True)
        preset, init = self.preset(), self.config.init
        try:
            if preset is not None:
                return self._from_preset(preset, arguments)
            weights = {"imagenet": "imagenet", "random": None}.get(init, init)
            return getattr(models, presets.MODELS[self.config.task])(**arguments, backbone_weights=weights)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model: {error}") from error

    def build_data(self, files: tuple[list, list], model: "keras.Model", log: Callable[[str], object]) -> Data:
        """Build the data sets, and fill their caches.

        Args:
            files: result of `find_files`.
            model: result of `build_model`.
            log: called with lines about progress.

        Raises:
            ConfigError: if keys of the `data` section do not fit together.
            DataError: naming every file that cannot be used, or if the cache does not fit in memory.
        """
        raise NotImplementedError

    def loss(self, model: "keras.Model") -> "keras.losses.Loss":
        """Build the loss."""
        raise NotImplementedError

    def train_model(self, model: "keras.Model") -> "keras.Model":
        """Return the model that `fit` trains: the whole model, or a part that shares its weights."""
        return model

    def eval_model(self, model: "keras.Model", train_model: "keras.Model") -> "tuple[keras.Model, dict]":
        """Return a model for validation that shares the weights of `train_model`, and its metrics for `compile`."""
        raise NotImplementedError

    def preset(self) -> presets.Preset | None:
        """Return the preset in `init`, or None if `init` specifies backbone weights.

        Raises:
            PresetError: if there is no such preset.
        """
        init = self.config.init
        if names_backbone_weights(init):
            return None
        try:
            return presets.find(init)
        except PresetError as error:
            raise PresetError(f"init: {error} Other values: imagenet, random, a file of backbone weights.") from error

    def _from_preset(self, preset: presets.Preset, arguments: dict) -> "keras.Model":
        raise NotImplementedError

    def _check_arguments(self, arguments: dict, allowed: tuple[str, ...] = ()):
        """Raise ConfigError if an argument of the model is not among those that may differ from the preset."""
        refused = [name for name in arguments if name not in allowed]
        if refused:
            changes = f"Only {' and '.join(allowed)} can be changed" if allowed else "Nothing can be changed"
            raise ConfigError(
                f"model.{refused[0]}: is defined by the preset in `init`. {changes}. "
                f"Received: init={self.config.init!r}"
            )
