"""Training task: the data, models and loss for one kind of network."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from keras_recnet import pipelines, presets
from keras_recnet.errors import ConfigError, PresetError
from keras_recnet.parallel import cores
from keras_recnet.training.config.loading import Config, names_backbone_weights
from keras_recnet.training.config.schema import OptimizerConfig
from keras_recnet.training.data import Data, Faults, ProgressLog
from keras_recnet.training.sample_sheet import Row

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

    def find_files(self, output: Path, log: Callable[[str], object] = print) -> tuple[list, list]:
        """Find the training and the validation files, and decode them all to report every fault in one error.

        Args:
            output: the run's folder, where synthetic images are written.
            log: called with lines about progress.

        Returns:
            Pairs or groups for training, and for validation.

        Raises:
            ConfigError: if the `data` section specifies no files, or too few for a batch, or the warm-up is too long.
            DataError: naming every file that cannot be used.
        """
        faults = Faults()
        training, validation = self._split(output, faults)
        with faults.collect():
            pairs = list(dict.fromkeys(self._pairs([*training, *validation])))
            progress = ProgressLog(log, "Checking images")
            pipelines.check_pairs(pairs, decode=not self._decoded, workers=cores(), progress=progress)
        if training:
            with faults.collect():
                self._check_length(training)
        faults.raise_all()
        return training, validation

    def check_keys(self) -> None:
        """Check that the keys of the configuration fit together.

        Raises:
            ConfigError: with all conflicts.
        """

    def steps_per_epoch(self, training: list) -> int:
        """Return the steps per epoch with the training files of `find_files`."""
        return len(training) // self.config.batch_size

    def _split(self, output: Path, faults: Faults) -> tuple[list, list]:
        """Find the training and the validation files; what is wrong with some of them is added to `faults`."""
        raise NotImplementedError

    def _pairs(self, files: list) -> Iterable[pipelines.Pair]:
        """Yield the pairs in `files`."""
        raise NotImplementedError

    # whether all files have been decoded by an earlier run
    _decoded = False

    def _check_length(self, training):
        config, steps = self.config, self.steps_per_epoch(training)
        if steps == 0:
            raise ConfigError(
                f"batch_size: {config.batch_size} is more than the {len(training)} training {self.unit}. Use --set "
                f"batch_size={len(training)}, or add {self.unit}."
            )
        if config.epochs is not None:
            warmup_steps(config.optimizer, config.epochs * steps)

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

    def predict_targets(self, files: tuple[list, list], log: Callable[[str], object]) -> tuple[list, list]:
        """Return the training and validation files with the targets that a teacher predicts.

        Args:
            files: result of `find_files`.
            log: called with lines about progress.

        Raises:
            RecNetError: if the teacher cannot be loaded, an image cannot be read, or a map cannot be written.
        """
        return files

    def build_data(self, files: tuple[list, list], model: "keras.Model", log: Callable[[str], object]) -> Data:
        """Build the datasets, and fill their caches.

        Args:
            files: result of `find_files`.
            model: result of `build_model`.
            log: called with lines about progress.

        Raises:
            ConfigError: if keys of the `data` section do not fit together.
            DataError: naming every file that cannot be used, or if the cache does not fit in memory.
        """
        raise NotImplementedError

    def initialize(self, model: "keras.Model", data: Data, log: Callable[[str], object]) -> None:
        """Train a part of the network before the first step of a new run, in process 0 only.

        Args:
            model: result of `build_model`.
            data: result of `build_data`.
            log: called with lines about progress.
        """

    def preview(self, files: tuple[list, list], model: "keras.Model") -> Iterator[list[Row]]:
        """Yield the rows of a contact sheet for each training batch, as augmented images with their masks.

        Args:
            files: result of `find_files`.
            model: result of `build_model`.

        Raises:
            ConfigError: if keys of the `data` section do not fit together.
            DataError: naming a file that cannot be used.
        """
        raise NotImplementedError

    def loss(self, model: "keras.Model") -> "keras.losses.Loss":
        """Build the loss."""
        raise NotImplementedError

    def train_model(self, model: "keras.Model") -> "keras.Model":
        """Return the model that `fit` trains: the whole model, or a part that shares its weights."""
        return model

    def eval_model(self, model: "keras.Model") -> "tuple[keras.Model, dict]":
        """Return a model for validation that shares the weights of `model`, and its metrics for `compile`."""
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

    def _changes(self, preset: presets.Preset, arguments: dict, allowed: tuple[str, ...] = ()) -> dict:
        """Return the arguments of the model that may differ from those of the preset.

        Raises:
            ConfigError: if another argument differs from the preset's.
        """
        own = preset.config["arguments"]
        for name, value in arguments.items():
            if name not in allowed and _plain(name, value) != _plain(name, own.get(name)):
                changes = f"Only {' and '.join(allowed)} can be changed" if allowed else "Nothing can be changed"
                raise ConfigError(
                    f"model.{name}: is {own.get(name)!r} in the preset in `init`. {changes}. "
                    f"Received: {value!r}, init={self.config.init!r}"
                )
        return {name: value for name, value in arguments.items() if name in allowed}


def warmup_steps(options: OptimizerConfig, steps: int) -> int:
    """Return the number of warm-up steps when training for `steps` steps.

    Raises:
        ConfigError: if the warm-up is too long or not supported by the schedule.
    """
    warmup = options.warmup_steps
    if warmup and options.schedule != "cosine":
        raise ConfigError(
            f"optimizer.warmup_steps: is supported with schedule: cosine only. Received: schedule={options.schedule!r}"
        )
    if isinstance(warmup, float):
        return round(warmup * steps)
    if warmup >= steps:
        raise ConfigError(
            f"optimizer.warmup_steps: {warmup} must be less than the {steps} training steps. "
            f"Use --set optimizer.warmup_steps=0.1 for a tenth of the steps, or train longer."
        )
    return warmup


def _plain(name: str, value):
    """Return an argument in the form of a preset's JSON file."""
    if name == "image_size" and isinstance(value, int):
        return [value, value]
    return list(value) if isinstance(value, tuple) else value
