"""What is particular to training a RecNet on single images; `of_groups` has the same functions for an RCAUNet."""

import keras

from keras_recnet import losses, metrics, presets
from keras_recnet.errors import ConfigError, PresetError
from keras_recnet.models import RecNet
from keras_recnet.training.config.loading import Config, names_backbone_weights
from keras_recnet.training.data import Data, find, prepare

__all__ = ["USE", "build_model", "data_of", "find", "fitted", "judge", "loss"]

USE = "predict PHOTO.jpg"  # the command that uses what was trained
COUNTED = "images"  # what a batch is of
PRESET_ARGUMENTS = ("image_size", "fusion")  # what may differ from the preset that a training starts from


def build_model(config: Config) -> RecNet:
    """The network with its starting weights.

    Raises:
        ConfigError: if `init` names nothing, or `model` contradicts the preset that it names.
        PresetError, WeightsError: if the weights cannot be had or do not fit.
    """
    arguments = config.model.model_dump(exclude_unset=True)
    if names_backbone_weights(config.init):
        return from_backbone(RecNet, config.init, arguments)
    find_start(config.init)
    refuse_others(arguments, PRESET_ARGUMENTS, config.init)
    return RecNet.from_preset(config.init, **arguments)


def data_of(config: Config, files: tuple[list, list], model: RecNet, say) -> Data:
    """The batches for the model; arguments and errors as of `data.prepare`."""
    return prepare(config, files, model.image_size, say)


def loss(config: Config, model: RecNet) -> keras.losses.Loss:
    """The loss that the configuration says."""
    arguments = config.loss.model_dump()
    if model.branches == "foreground" and "cooperative_weight" not in config.loss.model_fields_set:
        arguments["cooperative_weight"] = 0.0  # there is nothing to cooperate with
    return losses.SaliencyLoss(**arguments)


def fitted(config: Config, model: RecNet) -> keras.Model:
    """What `fit` trains: the model."""
    return model


def judge(model: RecNet, fitted: keras.Model) -> tuple[keras.Model, dict]:
    """A model of the same weights to validate with, and the metrics to compile it with."""
    scores = [
        metrics.SaliencyMAE(fusion=model.fusion, name="mae"),
        metrics.SaliencyFMeasure(fusion=model.fusion, name="f"),
    ]
    return keras.Model(fitted.inputs, fitted.outputs), {"metrics": scores}


def from_backbone(cls: type, init: str, arguments: dict) -> keras.Model:
    """A new network whose backbone has the weights that `init` says.

    Raises:
        ConfigError: if the arguments are not possible.
        WeightsError: if the weights cannot be had or do not fit.
    """
    weights = {"imagenet": "imagenet", "random": None}.get(init, init)
    try:
        return cls(**arguments, backbone_weights=weights)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def find_start(init: str) -> presets.Preset:
    """The preset that `init` names.

    Raises:
        PresetError: if there is none.
    """
    try:
        return presets.find(init)
    except PresetError as error:
        raise PresetError(f"init: {error} It may also be imagenet, random, or a file of backbone weights.") from error


def refuse_others(arguments: dict, allowed: tuple[str, ...], init: str) -> None:
    """Refuses arguments that contradict the preset which the training starts from.

    Raises:
        ConfigError: if there are any but the `allowed`.
    """
    other = [name for name in arguments if name not in allowed]
    if other:
        given = f"Of `model` only {' and '.join(allowed)} may" if allowed else "Nothing of `model` may"
        raise ConfigError(
            f"model.{other[0]}: comes with the preset that `init` names. {given} be given beside such a preset. "
            f"Received: init={init!r}"
        )
