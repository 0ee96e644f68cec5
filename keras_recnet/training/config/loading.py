"""Training configurations: their keys, reading and validation."""

import os
from typing import Annotated, ClassVar, Literal, get_args

import pydantic
from pydantic import BaseModel, Field

from keras_recnet.errors import ConfigError, did_you_mean, validation_message
from keras_recnet.training.config.schema import (
    CheckpointConfig,
    Count,
    DataConfig,
    GroupDataConfig,
    GroupLossConfig,
    GroupModelConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PresetConfig,
    Section,
    TeacherConfig,
)
from keras_recnet.training.config.yaml_source import Settings, read

# keys that may change when a run is resumed, because they affect neither the data nor, except for rounding, the weights
FREE_KEYS = ("output", "checkpoint", "preset", "samples", "tensorboard", "distribution")


class Config(Section):
    """Training configuration of a RecNet.

    Attributes:
        task: `saliency` (single images) or `cosaliency` (groups).
        init: initial weights: `imagenet` (pretrained backbone), `random`, a file of backbone weights, or the name or
            folder of a preset. A preset defines the architecture: only `image_size` and `fusion` of `model` can be
            changed.
        teacher: distillation from a stronger network; null trains on the masks alone.
        batch_size: images per step.
        epochs: length of training in epochs; set this or `steps`.
        steps: length of training in steps.
        ema: momentum of the exponential moving average of the weights, which is validated and saved; null disables it.
        seed: seed of the initial weights, the order of the data and the augmentation.
        precision: dtype policy of Keras.
        deterministic: makes runs with the same seed bit-identical (TensorFlow on a CPU), but slower.
        distribution: `data_parallel` divides each batch among all devices of all processes; JAX only. See
            [Scaling](scaling.md).
        output: folder of the run; by default `runs/NAME` for the configuration NAME.
        samples: number of validation images on the sheet of sample maps, drawn after each epoch; training images if
            there is no validation.
        tensorboard: whether to write TensorBoard events.
    """

    task: Literal["saliency"] = "saliency"
    init: str = "imagenet"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    teacher: TeacherConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: Count = 16
    epochs: Count | None = None
    steps: Count | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    deterministic: bool = False
    distribution: Literal["none", "data_parallel"] = "none"
    output: str
    checkpoint: CheckpointConfig = CheckpointConfig()
    preset: PresetConfig = PresetConfig()
    samples: Annotated[int, Field(ge=0, le=64)] = 8
    tensorboard: bool = True

    @pydantic.model_validator(mode="after")
    def _check(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "set the length of training in either `epochs` or `steps`, and leave the other null. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        if self.data.validation == 0 and self.preset.weights == "best":
            raise ValueError(
                "preset.weights: the best epoch cannot be chosen without validation. Use --set preset.weights=last, or "
                "--set data.validation=0.1. Received: preset.weights='best', data.validation=0"
            )
        return self

    def fixed(self) -> dict:
        """Return the values that must not change when a run is resumed."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in FREE_KEYS}


class GroupConfig(Config):
    """Training configuration of an RCAUNet.

    Attributes:
        task: `cosaliency`.
        init: as for `saliency`. With the preset of an RCAUNet, training continues from its weights, and nothing of
            `model` can be changed. With the preset of a RecNet, the edge version is built around it, and the defaults
            of `model` are those of `RCAUNet.from_recnet`.
        embedding_steps: steps before the first one, in which only the embedding of the edge version is trained, to
            predict the features of its backbone with ImageNet weights; with `data.cache: features` only.
        batch_size: groups per step.
    """

    task: Literal["cosaliency"]
    model: GroupModelConfig = GroupModelConfig()
    data: GroupDataConfig = GroupDataConfig()
    loss: GroupLossConfig = GroupLossConfig()
    embedding_steps: Annotated[int, Field(ge=0)] = 0
    teacher: ClassVar[None] = None  # not a key


CONFIGS = {"saliency": Config, "cosaliency": GroupConfig}


class InvalidValuesError(ConfigError):
    """Some keys or values of a configuration are invalid.

    Attributes:
        data_config: a configuration with the same `data` section, to report faults of the files at the same time; None
            if the section is invalid, too.
    """

    def __init__(self, message: str, data_config: Config | None):
        super().__init__(message)
        self.data_config = data_config


def names_backbone_weights(init: str) -> bool:
    """Return whether `init` is a source of backbone weights, not a preset."""
    return init in ("imagenet", "random") or os.path.isfile(init)


def with_current_defaults(fixed: dict) -> dict:
    """Return `Config.fixed()` of an older run, with the defaults of keys that were added since."""
    try:
        # `fixed` has no `preset`; without validation data, its default would be invalid
        values = {"output": "", "preset": {"weights": "last"}, **fixed}
        return CONFIGS[fixed.get("task", "saliency")].model_validate(values, strict=False).fixed()
    except (KeyError, pydantic.ValidationError):
        return fixed


def load(name_or_path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read and validate a configuration.

    Args:
        name_or_path: name of a shipped configuration, or path of a YAML file.
        overrides: `"dotted.key=value"` entries that override the file.

    Raises:
        ConfigError: if there is no such configuration, or it is not valid YAML.
        InvalidValuesError: with one line per error: the file and line, the key, what is expected and what was received.

    Example:
        >>> load("recnet_lite0", ["data.root=DUTS-TR", "batch_size=8"]).batch_size
        8
    """
    settings = read(name_or_path, overrides)
    values = {"output": f"runs/{settings.name}", **settings.values}
    task = values.get("task", "saliency")
    if not isinstance(task, str) or task not in CONFIGS:
        place = settings.places.get("task", name_or_path)
        raise ConfigError(
            f"{place}: task: must be one of {', '.join(CONFIGS)}.{did_you_mean(task, CONFIGS)} Received: {task!r}"
        )
    try:
        return CONFIGS[task].model_validate(values)
    except pydantic.ValidationError as error:
        messages = dict.fromkeys(_message(detail, settings, name_or_path, CONFIGS[task]) for detail in error.errors())
        raise InvalidValuesError("\n".join(messages), _data_config(CONFIGS[task], values)) from None


def _data_config(kind: type[Config], values: dict) -> Config | None:
    needed = {key: values[key] for key in ("task", "data", "seed", "output") if key in values}
    try:
        return kind.model_validate({**needed, "batch_size": 1, "epochs": 1, "preset": {"weights": "last"}})
    except pydantic.ValidationError:
        return None


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Return a line with both values for each dotted key that differs between two `Config.fixed()`."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} → {after!r}")
    return lines


def _message(detail: dict, settings: Settings, source, root: type[Config]) -> str:
    """Describe a pydantic error, with the place where its key was written."""
    parts, section = [], root
    for part in map(str, detail["loc"]):
        if part.isdigit() and parts:  # an entry of a list
            parts[-1] += f"[{part}]"
            continue
        # for a key of several types, pydantic appends the type it tried, which is not a key
        if section is None or (part not in section.model_fields and detail["type"] != "extra_forbidden"):
            break
        parts.append(part)
        if part not in section.model_fields:
            break
        section = section_of(section.model_fields[part].annotation)
    key = ".".join(parts)
    others = [path for path in all_keys(root) if parts and path.rpartition(".")[2] == parts[-1]]
    hint = f" Did you mean {others[0]!r}?" if others else ""
    message = validation_message(detail, key, section.model_fields if section else (), hint)
    return f"{settings.places.get(key, source)}: {message}"


def section_of(annotation) -> type[BaseModel] | None:
    """Return the section class in an annotation such as `AugmentConfig | None` or `list[RootConfig]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return all dotted keys of a configuration."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if section := section_of(field.annotation):
            keys += all_keys(section, f"{prefix}{name}.")
    return keys
