"""What the sections of a training configuration may say, and what each key means."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, Field


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


def _distractors(value):
    whole = [value] if type(value) is int else value if isinstance(value, list | tuple) and len(value) == 2 else []
    share = isinstance(value, float) and 0 <= value < 0.5
    if not share and not (whole and all(type(number) is int and number >= 0 for number in whole)):
        raise ValueError("expects a number of images, a range such as [0, 3], or a share below 0.5")
    return tuple(value) if isinstance(value, list) else value


ImageSize = Annotated[Any, BeforeValidator(_image_size)]
PresetSize = Annotated[Any, BeforeValidator(lambda value: value if value is None else _image_size(value))]
HeldOut = Annotated[Any, BeforeValidator(_held_out)]
Distractors = Annotated[Any, BeforeValidator(_distractors)]
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


class GroupModelConfig(Section):
    """The constructor arguments of `keras_recnet.RCAUNet`; the pretrained weights are named by `init`."""

    backbone: str = "vgg16"
    image_size: ImageSize = 224
    recurrent_unit: Literal["rcau", "gru", "mean"] | None = "rcau"
    use_reset_gate: bool = True
    use_spatial_attention: bool = True
    use_channel_attention: bool = True
    use_bias: bool = False
    spatial_reduction: Count = 1
    update_bias: float | None = None
    channels: Count | None = None
    foreground_gate: bool = False
    group_attention: bool = False
    group_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    group_gate: bool = False
    decoder_filters: Annotated[Any, BeforeValidator(lambda value: value)] = None
    separable: bool = False
    normalization: Literal["group"] | None = None
    freeze_pretrained: bool = False


class AugmentConfig(Section):
    """The arguments of `keras_recnet.pipelines.Augment`: random changes of a training image and its mask."""

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


class GroupDataConfig(Section):
    """Which groups of images to train on, and how they become batches.

    `root` stands for its subfolders `images` and `masks` and its list `groups.csv`; where there is no list, each
    subfolder of the images is a group. `list` is a CSV file `group,name,split`; `validation` is another such list, or
    None: the lines of `list` whose split is `validation`, or a share of the groups where it has no splits.

    `synthetic` draws so many groups instead. An epoch shows each group `passes` times, each time `images_per_group` of
    its images and of distractors.

    `cache: memory` keeps the decoded images; `cache: features` keeps what the frozen pretrained part makes of each
    image and of its mirror image, as files in the folder `features`, so that a step trains the new part alone.

    `near_share` of the distractors come from the `near` categories that are most like the group's by these features;
    `near: 0` draws all evenly.
    """

    root: str | None = None
    images: str | None = None
    masks: str | None = None
    list: str | None = None
    validation: HeldOut = None
    synthetic: Annotated[int, Field(ge=8)] | None = None
    images_per_group: Count = 5
    distractors: Distractors = 0
    near: Annotated[int, Field(ge=0)] = 0
    near_share: Share = 0.5
    passes: Count = 1
    augment: AugmentConfig | None = AugmentConfig()
    cache: Literal["memory", "features"] | None = None
    cache_size: Count = 272
    features: str | None = None


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


class CoPerceptualConfig(Section):
    """The constructor arguments of `keras_recnet.losses.CoPerceptualLoss`."""

    image_size: ImageSize | None = None
    pooling: Literal["average"] | None = "average"
    weights: str | None = "imagenet"


class GroupLossConfig(Section):
    """The constructor arguments of `keras_recnet.losses.CoSaliencyLoss`."""

    cross_entropy: Literal["plain", "structure"] = "plain"
    dice_weight: NotNegative = 0.0
    iou_weight: NotNegative = 0.0
    pixel_reduction: Literal["mean", "sum"] = "mean"
    smooth: Positive = 1.0
    co_perceptual: CoPerceptualConfig | None = None
    co_perceptual_weight: NotNegative | None = None
    start_epoch: Annotated[int, Field(ge=0)] = 0


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
    """The preset folder that a training ends with.

    `weights`: `best`, those of the epoch with the least error on the validation images, or `last`, those of the end of
    the schedule: for groups, whose validation images hold no distractors, so that their error says half of it.
    """

    weights: Literal["best", "last"] = "best"
    image_size: PresetSize = None
    litert: bool = True
