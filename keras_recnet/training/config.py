"""What a training configuration may say, and what each key means."""

import os
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import BaseModel, BeforeValidator, Field

from keras_recnet.errors import ConfigError
from keras_recnet.training.settings import Settings, nearest, read

# keys that may differ between a run and its resumption: they change neither the data nor the arithmetic
FREE_KEYS = ("output", "checkpoint", "preset", "samples", "tensorboard")


def _image_size(value):
    sizes = [value] if isinstance(value, int) else value
    whole = isinstance(sizes, list | tuple) and all(type(size) is int and size > 0 for size in sizes)
    if not whole or len(sizes) > 2:
        raise ValueError("expects a number of pixels such as 224, or [height, width]")
    return value if isinstance(value, int) else tuple(sizes)


def _held_out(value):
    if not (value is None or isinstance(value, str) or (isinstance(value, float) and 0 < value < 1)):
        raise ValueError("expects the path of a list of names, or a share of the images such as 0.1")
    return value


ImageSize = Annotated[Any, BeforeValidator(_image_size)]
PresetSize = Annotated[Any, BeforeValidator(lambda value: value if value is None else _image_size(value))]
HeldOut = Annotated[Any, BeforeValidator(_held_out)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """One mapping of the file: no unknown keys, no silent conversions, not changed after it was read."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelConfig(Section):
    """The constructor arguments of `keras_recnet.RecNet`; the pretrained weights are named by `init`."""

    backbone: str = "resnet50"
    image_size: ImageSize = 384
    output_stride: Literal[8, 16, 32] | None = None
    freeze_batch_normalization: bool = True
    branches: Literal["both", "foreground"] = "both"
    integration_filters: Count = 256
    attention: Literal["both", "background", "foreground"] | None = "both"
    key_channels: Count = 512
    value_channels: Count | None = None
    attention_normalize: Literal["joint", "each"] = "joint"
    scale_scores: bool = False
    head_filters: Count = 128
    head_stride: Literal[8, 4, 2] = 8
    separable: bool = False
    normalization: Literal["batch"] | None = None
    fusion: Literal["subtract", "foreground", "inverse_background", "average"] = "subtract"


class AugmentConfig(Section):
    """The arguments of `keras_recnet.pipelines.duts.Augment`: random changes of a training image and its mask."""

    flip: Share = 0.5
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.75
    brightness: Share = 0.2
    contrast: Share = 0.0
    saturation: Share = 0.0


class DataConfig(Section):
    """Which images and masks to train on, and how they become batches.

    `root` stands for its subfolders `images` and `masks` and, when it is there, its list `validation.txt`.
    """

    root: str | None = None
    images: str | None = None
    masks: str | None = None
    list: str | None = None
    exclude: str | None = None
    validation: HeldOut = None
    synthetic: Annotated[int, Field(ge=8)] | None = None
    augment: AugmentConfig | None = AugmentConfig()
    cache: Literal["memory"] | None = None
    cache_size: Count = 272


class LossConfig(Section):
    """The constructor arguments of `keras_recnet.losses.SaliencyLoss`."""

    cooperative_weight: NotNegative = 1.0
    cooperative_terms: Literal["both", "match", "overlap"] = "both"
    cross_entropy: Literal["plain", "structure"] = "plain"
    dice_weight: NotNegative = 0.0
    iou_weight: NotNegative = 0.0
    pixel_reduction: Literal["mean", "sum"] = "mean"
    epsilon: Annotated[float, Field(gt=0, lt=0.5)] = 1e-4
    smooth: Positive = 1.0


class OptimizerConfig(Section):
    """AdamW or SGD, with one learning rate for the backbone and one for the rest."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 2e-3
    backbone_learning_rate: Positive | None = 2e-4
    weight_decay: NotNegative = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    power: Positive = 0.9
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip: Positive | None = None


class CheckpointConfig(Section):
    """When to write a checkpoint besides the end of each epoch, and how many of them to keep."""

    minutes: Positive = 10.0
    steps: Count | None = None
    keep: Count = 2


class PresetConfig(Section):
    """The preset folder that a training ends with."""

    image_size: PresetSize = None
    litert: bool = True


class Config(Section):
    """A whole training.

    `init` says where the weights come from: `imagenet` (the backbone's, pretrained), `random`, the name or folder of a
    preset (which brings its architecture with it: of `model` only `image_size` and `fusion` may be given then), or a
    file with ImageNet weights for the backbone.
    """

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


def as_of_now(fixed: dict) -> dict:
    """`Config.fixed()` of an older run, with today's defaults for keys that did not exist then."""
    try:
        return Config.model_validate({"output": "", **fixed}, strict=False).fixed()
    except pydantic.ValidationError:
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
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        faults = dict.fromkeys(_fault(detail, settings, name_or_path) for detail in error.errors())
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


def _fault(detail: dict, settings: Settings, source) -> str:
    """One of pydantic's faults as a sentence."""
    parts, section = [], Config
    for part in map(str, detail["loc"]):
        # behind a key of several types pydantic names the type that it tried; that is no key
        if section is None or (part not in section.model_fields and detail["type"] != "extra_forbidden"):
            break
        parts.append(part)
        field = section.model_fields.get(part)
        if field is None:
            break
        section = section_of(field.annotation)
    key = ".".join(parts)
    place = settings.places.get(key, source)
    received = f"Received: {detail['input']!r}"
    if detail["type"] == "extra_forbidden":
        parent = Config
        for part in parts[:-1]:
            parent = section_of(parent.model_fields[part].annotation)
        return f"{place}: {key}: unknown key.{nearest_key(parts[-1], parent)}"
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"])
        return f"{place}: {key}: {message}. {received}" if key else f"{place}: {message}"
    if detail["type"] == "literal_error":
        message = f"must be one of {detail['ctx']['expected'].replace(' or ', ', ')}."
        words = [word.strip(" '") for word in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
        return f"{place}: {key}: {message}{nearest(detail['input'], words)} {received}"
    if detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
        examples = ", ".join(list(section.model_fields)[:3])
        return f"{place}: {key}: expects a mapping with keys such as {examples}. {received}"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{place}: {key}: {message}. {received}"


def nearest_key(key: str, model: type[BaseModel]) -> str:
    """A hint at the valid key that was meant: in this section, or of the same name in another one."""
    hint = nearest(key, model.model_fields)
    if hint:
        return hint
    homes = [path for path in all_keys(Config) if path.rsplit(".", 1)[-1] == key]
    return f" Did you mean {homes[0]!r}?" if homes else f" Valid keys here: {', '.join(model.model_fields)}."


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
