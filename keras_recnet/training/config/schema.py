"""Sections of a training configuration: keys, types and defaults."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, Field


def _image_size(value):
    sizes = [value] if isinstance(value, int) else value
    whole = isinstance(sizes, list | tuple) and all(type(size) is int and size > 0 for size in sizes)
    if not whole or len(sizes) > 2:
        raise ValueError("must be a number of pixels such as 224, or [height, width]")
    return value if isinstance(value, int) else tuple(sizes)


def _held_out(value):
    if not (value is None or isinstance(value, str) or (isinstance(value, float) and 0 < value < 1)):
        raise ValueError("must be the path of a list of names, or a share of the images such as 0.1")
    return value


def _distractors(value):
    whole = [value] if type(value) is int else value if isinstance(value, list | tuple) and len(value) == 2 else []
    share = isinstance(value, float) and 0 <= value < 0.5
    if not share and not (whole and all(type(number) is int and number >= 0 for number in whole)):
        raise ValueError("must be a number of images, a range such as [0, 3], or a share below 0.5")
    return tuple(value) if isinstance(value, list) else value


def _described(text):
    """Return the annotation of an `Any` field for the generated list of keys."""
    return pydantic.WithJsonSchema({"description": text})


ImageSize = Annotated[Any, BeforeValidator(_image_size), _described("pixels, or [height, width]")]
PresetSize = Annotated[
    Any,
    BeforeValidator(lambda value: value if value is None else _image_size(value)),
    _described("pixels, or [height, width], `null`"),
]
HeldOut = Annotated[Any, BeforeValidator(_held_out), _described("path of a list, or share > 0 and < 1, `null`")]
Distractors = Annotated[Any, BeforeValidator(_distractors), _described("number, [least, most], or share < 0.5")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """Base of all sections: immutable, without unknown keys or implicit type conversions."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelConfig(Section):
    """Constructor arguments of `keras_recnet.RecNet`, except the weights, which `init` specifies."""

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
    """Constructor arguments of `keras_recnet.RCAUNet`, except the weights, which `init` specifies."""

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
    group_gate: bool = False
    decoder_filters: Annotated[Any, _described("list of whole numbers, `null`")] = None
    separable: bool = False
    freeze_pretrained: bool = False


class AugmentConfig(Section):
    """Arguments of `keras_recnet.pipelines.Augment`: random augmentation of training images and masks."""

    flip: Share = 0.5
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.75
    brightness: Share = 0.2
    contrast: Share = 0.0
    saturation: Share = 0.0


class DataConfig(Section):
    """Images and masks for training and validation, augmentation and caching.

    Files: either `root`, a folder with the subfolders `images` and `masks` and optionally the list `validation.txt`, or
    `images` and `masks`, or `synthetic`, the number of images to draw. `list` restricts the images to the names in a
    text file, `exclude` leaves out those in another. `validation` is the list of held-out names, or their share.

    `cache: memory` keeps decoded images of `cache_size`; null decodes the files in every epoch.
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
    """Groups of images for training and validation, augmentation and caching.

    Files: either `root`, a folder with the subfolders `images` and `masks` and optionally the list `groups.csv`, or
    `images` and `masks`, or `synthetic`, the number of groups to draw. `list` is a CSV file `group,name,split`; without
    a list, each subfolder of the images is a group. `validation` is another such list, or a share of the groups; null
    uses the lines of `list` with the split `validation`, or a tenth of the groups if there are none.

    An epoch contains each group `passes` times, each time with up to `images_per_group` images including `distractors`
    (a number, a range or a share).

    `cache: memory` keeps decoded images of `cache_size`. `cache: features` keeps the features that the frozen
    pretrained part computes for each image and its mirror image, in the folder `features` (default: in the output
    folder); a step then trains only the layers after it.

    `hard_negative_share` of the distractors come from the `hard_negatives` categories that are most similar to the
    group's, by cached features; `hard_negatives: 0` draws all distractors uniformly. Ours; it follows the hard
    negatives of Schroff et al., "FaceNet", CVPR 2015, but for whole categories.
    """

    root: str | None = None
    images: str | None = None
    masks: str | None = None
    list: str | None = None
    validation: HeldOut = None
    synthetic: Annotated[int, Field(ge=8)] | None = None
    images_per_group: Count = 5
    distractors: Distractors = 0
    hard_negatives: Annotated[int, Field(ge=0)] = 0
    hard_negative_share: Share = 0.5
    passes: Count = 1
    augment: AugmentConfig | None = AugmentConfig()
    cache: Literal["memory", "features"] | None = None
    cache_size: Count = 272
    features: str | None = None


class LossConfig(Section):
    """Constructor arguments of `keras_recnet.losses.SaliencyLoss`."""

    cooperative_weight: NotNegative = 1.0
    cooperative_terms: Literal["both", "match", "overlap"] = "both"
    cross_entropy: Literal["plain", "structure"] = "plain"
    dice_weight: NotNegative = 0.0
    iou_weight: NotNegative = 0.0
    pixel_reduction: Literal["mean", "sum"] = "mean"
    epsilon: Annotated[float, Field(gt=0, lt=0.5)] = 1e-4
    smooth: Positive = 1.0


class CoPerceptualConfig(Section):
    """Constructor arguments of `keras_recnet.losses.CoPerceptualLoss`."""

    image_size: ImageSize | None = None
    pooling: Literal["average"] | None = "average"
    weights: str | None = "imagenet"


class GroupLossConfig(Section):
    """Constructor arguments of `keras_recnet.losses.CoSaliencyLoss`."""

    cross_entropy: Literal["plain", "structure"] = "plain"
    dice_weight: NotNegative = 0.0
    iou_weight: NotNegative = 0.0
    pixel_reduction: Literal["mean", "sum"] = "mean"
    smooth: Positive = 1.0
    co_perceptual: CoPerceptualConfig | None = None
    co_perceptual_weight: NotNegative | None = None
    start_epoch: Annotated[int, Field(ge=0)] = 0


class OptimizerConfig(Section):
    """AdamW or SGD, with separate learning rates for the backbone and the rest.

    `backbone_learning_rate: null` uses one rate for all. `momentum` applies to SGD, `power` to the schedule `poly`, and
    `warmup_steps` to the schedule `cosine`. `clip` is the maximal global norm of the gradients.
    """

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
    """Checkpoints every `minutes` or `steps`, and after each epoch; the newest `keep` of them are kept."""

    minutes: Positive = 10.0
    steps: Count | None = None
    keep: Count = 2


class PresetConfig(Section):
    """The preset written at the end of the training.

    `weights` is `best` (the epoch with the lowest validation error) or `last`. Use `last` for groups: their validation
    data has no distractors, so its error covers only half of the task. `image_size` changes the input size, and
    `litert` adds a LiteRT file.
    """

    weights: Literal["best", "last"] = "best"
    image_size: PresetSize = None
    litert: bool = True
