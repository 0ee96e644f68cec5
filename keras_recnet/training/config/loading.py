"""A whole training configuration, for one image or for groups; how it is read, and how its faults are told."""

import os
from typing import Annotated, Literal, get_args

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
)
from keras_recnet.training.config.yaml_source import Settings, read

# keys that may differ between a run and its resumption: they change neither the data nor the arithmetic
FREE_KEYS = ("output", "checkpoint", "preset", "samples", "tensorboard")


class Config(Section):
    """A whole training of a RecNet.

    `task` is `saliency`, for one image at a time, or `cosaliency`, for groups (`GroupConfig`).

    `init` says where the weights come from: `imagenet` (the backbone's, pretrained), `random`, the name or folder of a
    preset (which brings its architecture with it: of `model` only `image_size` and `fusion` may be given then), or a
    file with ImageNet weights for the backbone.
    """

    task: Literal["saliency"] = "saliency"
    init: str = "imagenet"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: Count = 16
    epochs: Count | None = None
    steps: Count | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    deterministic: bool = False
    output: str
    checkpoint: CheckpointConfig = CheckpointConfig()
    preset: PresetConfig = PresetConfig()
    samples: Annotated[int, Field(ge=0, le=64)] = 8
    tensorboard: bool = True

    @pydantic.model_validator(mode="after")
    def _length(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "give the length of the training by one of `epochs` and `steps`, and set the other to null. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        return self

    def fixed(self) -> dict:
        """What a resumed run must have in common with the run that it goes on with."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in FREE_KEYS}


class GroupConfig(Config):
    """A whole training of an RCAUNet; a batch is `batch_size` groups.

    `init` may name, beside what it may for `saliency`, the preset of a RecNet: the model is then built around it, with
    the edge version's arguments where `model` gives no others.
    """

    task: Literal["cosaliency"]
    model: GroupModelConfig = GroupModelConfig()
    data: GroupDataConfig = GroupDataConfig()
    loss: GroupLossConfig = GroupLossConfig()


TASKS = {"saliency": Config, "cosaliency": GroupConfig}


def names_backbone_weights(init: str) -> bool:
    """Whether `init` says where the backbone's weights come from, and not a preset."""
    return init in ("imagenet", "random") or os.path.isfile(init)


def as_of_now(fixed: dict) -> dict:
    """`Config.fixed()` of an older run, with today's defaults for keys that did not exist then."""
    try:
        return TASKS[fixed.get("task", "saliency")].model_validate({"output": "", **fixed}, strict=False).fixed()
    except (KeyError, pydantic.ValidationError):
        return fixed


def load(name_or_path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Reads and validates a configuration.

    Args:
        name_or_path: a shipped configuration's name, or a YAML file.
        overrides: `"dotted.key=value"` entries that are laid over it.

    Raises:
        ConfigError: naming, for every fault, the file and line, the key, what was received and what would be right.

    Example:
        >>> load("recnet_lite0", ["data.root=DUTS-TR", "batch_size=8"]).batch_size
        8
    """
    settings = read(name_or_path, overrides)
    values = {"output": f"runs/{settings.name}", **settings.values}
    task = values.get("task", "saliency")
    if task not in TASKS:
        place = settings.places.get("task", name_or_path)
        raise ConfigError(
            f"{place}: task: must be one of {', '.join(TASKS)}.{did_you_mean(task, TASKS)} Received: {task!r}"
        )
    try:
        return TASKS[task].model_validate(values)
    except pydantic.ValidationError as error:
        faults = dict.fromkeys(_message(detail, settings, name_or_path, TASKS[task]) for detail in error.errors())
        raise ConfigError("\n".join(faults)) from None


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """The dotted keys by which two `Config.fixed()` differ, with both values."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} → {after!r}")
    return found


def _message(detail: dict, settings: Settings, source, root: type[Config]) -> str:
    """Describe one of pydantic's errors with the place where its key was written."""
    parts, section = [], root
    for part in map(str, detail["loc"]):
        # for a key of several types, pydantic appends the type that it tried, which is no key
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
    """The section class inside an annotation such as `AugmentConfig | None`."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key that a configuration can hold."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if section := section_of(field.annotation):
            keys += all_keys(section, f"{prefix}{name}.")
    return keys
