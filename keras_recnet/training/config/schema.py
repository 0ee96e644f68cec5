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


def _is_share(value):
    return type(value) in (int, float) and 0 <= value < 1


def _warmup(value):
    if not (_is_share(value) or (type(value) is int and value > 0)):
        raise ValueError("must be a number of steps, or a share of all steps below 1, such as 0.1")
    return value


def _held_out(value):
    if not (value is None or isinstance(value, str) or _is_share(value)):
        raise ValueError("must be the path of a list of names, or a share of the images such as 0.1, or 0")
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
HeldOut = Annotated[Any, BeforeValidator(_held_out), _described("path of a list, or share < 1, `null`")]
WarmUp = Annotated[Any, BeforeValidator(_warmup), _described("number of steps, or share < 1")]
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
    embedding_channels: Count = 64
    decoder_filters: Annotated[Any, _described("list of whole numbers, `null`")] = None
    freeze_pretrained: bool = False


class AugmentConfig(Section):
    """Arguments of `keras_recnet.pipelines.Augment`: random augmentation of training images and masks."""

    flip: Share = 0.5
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.75
    brightness: Share = 0.2
    contrast: Share = 0.0
    saturation: Share = 0.0


class FoldersConfig(Section):
    """Folders of images and masks.

    Attributes:
        root: folder with the subfolders `images` and `masks`.
        images: folder of images, instead of `root`.
        masks: folder of masks, instead of `root`.
    """

    root: str | None = None
    images: str | None = None
    masks: str | None = None


class RootConfig(FoldersConfig):
    """An entry of `data.roots`: images and masks in one place.

    Attributes:
        list: text file with the names to use; null uses all images.
        exclude: text file with names to leave out.
        unlabeled: folder of images without masks, which are trained on the maps of the `teacher`; null uses none.
    """

    list: str | None = None
    exclude: str | None = None
    unlabeled: str | None = None


class GroupFoldersConfig(FoldersConfig):
    """Folders of groups.

    Attributes:
        list: CSV file `group,name,split,category`. null uses `root/groups.csv`, or without it a group per subfolder.
            Lines with a split other than `train` and `validation` are not used.
    """

    list: str | None = None


class GroupRootConfig(GroupFoldersConfig):
    """An entry of `data.roots`: groups in one place.

    Attributes:
        several_objects: whether the images also show objects of other categories, as in COCO. Then they are not used as
            distractors of other groups or in composites.
    """

    several_objects: bool = False


Roots = Annotated[list[RootConfig], Field(min_length=1)]
GroupRoots = Annotated[list[GroupRootConfig], Field(min_length=1)]


class CompositesConfig(Section):
    """Composites: two images of different categories in one, side by side or one object pasted onto the other image.

    Attributes:
        count: number of different composites. They do not depend on `seed`.
        share: share of the images and of the distractors of a group that are composites.
    """

    count: Count = 8000
    share: Annotated[float, Field(ge=0, lt=1)] = 0.45


class DataConfig(RootConfig):
    """Images and masks for training and validation, augmentation and caching.

    Attributes:
        roots: several places of images, instead of the keys above: a list of mappings.
        validation: text file with the names to hold out, or a share of the images. null uses `root/validation.txt`, or
            a tenth of the images if there is no such file. 0 trains without validation, with `preset.weights: last`.
        synthetic: number of images to draw instead.
        augment: random augmentation; null disables it.
        cache: `memory` keeps all images in memory at `cache_size`; null decodes the files in every epoch.
        cache_size: side of the cached squares, slightly larger than `model.image_size`.
    """

    roots: Roots | None = None
    validation: HeldOut = None
    synthetic: Annotated[int, Field(ge=8)] | None = None
    augment: AugmentConfig | None = AugmentConfig()
    cache: Literal["memory"] | None = None
    cache_size: Count = 272


class SplitConfig(Section):
    """The two halves of the images of each group, as in the second stage of the RCAU paper's training.

    `keras-recnet evaluate --grouped --split-seed SEED --part test` scores the other half.

    Attributes:
        seed: seed of the random choice.
        part: the half to use.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    part: Literal["train", "test"] = "train"


class GroupDataConfig(GroupFoldersConfig):
    """Groups of images for training and validation, augmentation and caching.

    Attributes:
        roots: several places of groups, instead of the keys above: a list of mappings.
        validation: another CSV file, or a share of the groups. null uses the lines of `list` with the split
            `validation`, or a tenth of the groups if there are none. 0 trains without validation, with
            `preset.weights: last`.
        split: uses half of the images of each group; null uses all.
        synthetic: number of groups to draw instead.
        images_per_group: maximum number of images per group, including distractors.
        distractors: distractors per group: a number, a range or a share.
        category_share: share of the groups that are whole categories of the list. Groups and categories are then drawn
            with a probability proportional to the square root of their number of images. 0 uses each group once per
            pass.
        small_group_share: share of the groups with a random, smaller number of images.
        composites: composites, two images in one; null uses none.
        passes: how often an epoch contains each group.
        augment: random augmentation; null disables it.
        cache: `memory` keeps all images in memory at `cache_size`. `features` keeps the features of each image and its
            mirror image in files, so that a step trains only the layers after the frozen pretrained part. null decodes
            the files in every epoch.
        cache_size: side of the cached squares, slightly larger than `model.image_size`.
        features: folder of the cached features; null: in the output folder.
    """

    roots: GroupRoots | None = None
    validation: HeldOut = None
    split: SplitConfig | None = None
    synthetic: Annotated[int, Field(ge=8)] | None = None
    images_per_group: Count = 5
    distractors: Distractors = 0
    category_share: Share = 0.0
    small_group_share: Share = 0.0
    composites: CompositesConfig | None = None
    passes: Count = 1
    augment: AugmentConfig | None = AugmentConfig()
    cache: Literal["memory", "features"] | None = None
    cache_size: Count = 272
    features: str | None = None


class LossConfig(Section):
    """Constructor arguments of `keras_recnet.losses.SaliencyLoss`, and the distillation of ImageNet features.

    Attributes:
        imagenet_weight: weight of a loss that keeps the backbone close to its ImageNet features, see
            `keras_recnet.layers.FeatureDistillation`. Co-saliency networks need them to tell kinds of objects apart.
    """

    imagenet_weight: NotNegative = 0.0
    cooperative_weight: NotNegative = 1.0
    cooperative_terms: Literal["both", "match", "overlap"] = "both"
    cross_entropy: Literal["plain", "structure"] = "plain"
    absolute_weight: NotNegative = 0.0
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
    """Constructor arguments of `keras_recnet.losses.CoSaliencyLoss`, and of the classification of groups.

    Attributes:
        classification_weight: weight of the classification of objects by their group, see
            `keras_recnet.layers.GroupClassifier`; with `data.cache: features` only.
    """

    classification_weight: NotNegative = 0.0
    cross_entropy: Literal["plain", "structure"] = "plain"
    absolute_weight: NotNegative = 0.0
    dice_weight: NotNegative = 0.0
    iou_weight: NotNegative = 0.0
    pixel_reduction: Literal["mean", "sum"] = "mean"
    smooth: Positive = 1.0
    co_perceptual: CoPerceptualConfig | None = None
    co_perceptual_weight: NotNegative | None = None
    start_epoch: Annotated[int, Field(ge=0)] = 0


class TeacherConfig(Section):
    """Knowledge distillation: a teacher's saliency maps as targets, for images with and without masks.

    Set one of `preset`, `onnx` and `maps`. The target of an image with a mask is `weight · map + (1 − weight) · mask`,
    of an image without a mask the map. Validation uses masks only. See [Distillation](finetuning.md#distillation).

    Attributes:
        preset: name or folder of a preset that predicts the maps before the training.
        onnx: ONNX file of a saliency network that predicts the maps before the training.
        maps: folder of maps.
        weight: weight of the maps.
    """

    preset: str | None = None
    onnx: str | None = None
    maps: str | None = None
    weight: Share = 0.5


class OptimizerConfig(Section):
    """AdamW or SGD, with separate learning rates for the backbone and the rest.

    Attributes:
        name: the optimizer.
        learning_rate: peak learning rate.
        backbone_learning_rate: peak learning rate of the backbone; null uses `learning_rate`.
        weight_decay: decoupled weight decay.
        momentum: of SGD.
        schedule: how the learning rate decreases to 0: half a cosine, or `(1 − step / steps)^power`; or a constant.
        power: of the schedule `poly`.
        warmup_steps: steps during which the learning rate rises from 0, a number or a share of all steps; with the
            schedule `cosine` only.
        clip: maximum global norm of the gradients; null disables clipping.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 2e-3
    backbone_learning_rate: Positive | None = 2e-4
    weight_decay: NotNegative = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    power: Positive = 0.9
    warmup_steps: WarmUp = 0
    clip: Positive | None = None


class CheckpointConfig(Section):
    """When to write checkpoints, in addition to the end of each epoch.

    Attributes:
        minutes: time between checkpoints.
        steps: steps between checkpoints.
        keep: number of checkpoints to keep, the newest ones.
    """

    minutes: Positive = 10.0
    steps: Count | None = None
    keep: Count = 2


class PresetConfig(Section):
    """The preset written at the end of training.

    Attributes:
        weights: `best` (the epoch with the lowest validation error) or `last`. The validation data of groups has no
            distractors.
        image_size: input size of the preset; null uses `model.image_size`.
        litert: whether to add a LiteRT file.
    """

    weights: Literal["best", "last"] = "best"
    image_size: PresetSize = None
    litert: bool = True
