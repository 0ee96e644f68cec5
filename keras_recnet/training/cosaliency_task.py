"""What is particular to training an RCAUNet on groups of images; the same functions as in `of_images`."""

import math
from pathlib import Path

import keras
import numpy as np

from keras_recnet import losses, metrics, pipelines
from keras_recnet.errors import ConfigError, DataError
from keras_recnet.models import RCAUNet
from keras_recnet.models._group_model import GroupModel
from keras_recnet.training import synthetic
from keras_recnet.training.config.loading import GroupConfig, names_backbone_weights
from keras_recnet.training.data import HELD_OUT, Data, Reading, fingerprint, folders, names_of
from keras_recnet.training.feature_cache import GroupFeatures, is_made
from keras_recnet.training.saliency_task import find_start, from_backbone, refuse_others

USE = "cosal FOLDER"  # the command that uses what was trained
COUNTED = "groups"  # what a batch is of
LIST = "groups.csv"
VALIDATION = "validation"  # what the list's column `split` says of the groups that are held out


def build_model(config: GroupConfig) -> RCAUNet:
    """The network with its starting weights.

    Raises:
        ConfigError: if `init` names nothing, or `model` contradicts the preset that it names.
        PresetError, WeightsError: if the weights cannot be had or do not fit.
    """
    arguments = config.model.model_dump(exclude_unset=True)
    if names_backbone_weights(config.init):
        return from_backbone(RCAUNet, config.init, arguments)
    if _goes_on(config):
        refuse_others(arguments, (), config.init)
        return RCAUNet.from_preset(config.init)
    if "backbone" in arguments:
        raise ConfigError(f"model.backbone: comes with the preset that `init` names. Received: init={config.init!r}")
    try:
        return RCAUNet.from_recnet(config.init, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {error}") from error


def find(config: GroupConfig, output: str) -> tuple[list, list]:
    """The groups to train on and those to validate on, each file looked at.

    Raises:
        ConfigError: if `data` does not say where the groups are.
        DataError: naming every file with a fault.
    """
    try:
        training, validation = _split(config, Path(output))
        # every pixel is read on the way into the memory, and was read on the way into features
        was_read = config.data.cache == "features" and is_made(_features(config))
        pipelines.check_groups([*training, *validation], decode=config.data.cache != "memory" and not was_read)
    except pipelines.PipelineDataError as error:
        raise DataError(str(error)) from error
    if len(training) * config.data.passes < config.batch_size:
        raise ConfigError(
            f"batch_size: {config.batch_size} groups are more than the {len(training)} to train on. Say --set "
            f"batch_size={len(training)}, or add groups."
        )
    return training, validation


def data_of(config: GroupConfig, files: tuple[list, list], model: RCAUNet, say) -> Data:
    """The batches for the model: of images, or with `cache: features` of what its pretrained part makes of them.

    Raises:
        ConfigError: if the arguments do not fit together.
        DataError: naming every file with a fault, or when the cache does not fit.
    """
    data, (training, validation) = config.data, files
    shown = {"images_per_group": data.images_per_group, "distractors": data.distractors, "seed": config.seed}
    names = [f"{group.name}/{name}" for group in training for name in names_of(group.pairs)]
    held_out = [f"{group.name}/{name}" for group in validation for name in names_of(group.pairs)]
    try:
        of_images = pipelines.SaliencyGroups(
            validation, model.image_size, 1, seed=config.seed, cache=None, drop_remainder=False
        )
        if data.cache == "features":
            if not model.freeze_pretrained:
                raise ConfigError(
                    "data.cache: features stay the same only while what makes them is frozen. Say --set "
                    "model.freeze_pretrained=true, or --set data.cache=memory."
                )
            folder = _features(config)
            to_train = GroupFeatures(
                training * data.passes,
                model,
                folder / "training",
                config.batch_size,
                say=say,
                mirrored=True,
                near=data.near,
                near_share=data.near_share,
                **shown,
            )
            to_validate = GroupFeatures(
                validation, model, folder / "validation", 1, say=say, seed=config.seed, drop_remainder=False
            )
        elif data.near:
            raise ConfigError(
                "data.near: categories are compared by kept features. Say --set data.cache=features, or --set "
                "data.near=0."
            )
        else:
            augment = None if data.augment is None else pipelines.Augment(**data.augment.model_dump())
            to_train = pipelines.SaliencyGroups(
                training * data.passes,
                model.image_size,
                config.batch_size,
                augment=augment,
                cache=data.cache,
                cache_size=data.cache_size,
                progress=Reading(say),
                **shown,
            )
            to_validate = of_images
    except pipelines.PipelineDataError as error:
        raise DataError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error
    if model.group_gate and not _goes_on(config):  # or the few images of a fine-tuning would stand for all images
        model.adapt(to_train.each(model.described) if data.cache == "features" else _features_of(to_train, model))
    return Data(
        training=to_train,
        validation=to_validate,
        fingerprint=fingerprint(names, held_out),
        samples=lambda count: _samples(of_images, count),
        counts=f"{len(training)} groups of {len(names):,} images to train on, {len(validation)} of {len(held_out):,} "
        f"to validate",
    )


def loss(config: GroupConfig, model: RCAUNet) -> keras.losses.Loss:
    """The loss that the configuration says."""
    arguments = config.loss.model_dump()
    perceptual = arguments.pop("co_perceptual")
    if perceptual is not None:
        if config.data.cache == "features":
            raise ConfigError(
                "loss.co_perceptual: needs the images, which `data.cache: features` does not keep. Say --set "
                "data.cache=memory, or --set loss.co_perceptual=null."
            )
        perceptual = losses.CoPerceptualLoss(**perceptual)
        perceptual.prepare(model.image_size)
    return losses.CoSaliencyLoss(**arguments, co_perceptual=perceptual)


def fitted(config: GroupConfig, model: RCAUNet) -> keras.Model:
    """What `fit` trains: the model, or, on cached features, what comes behind them."""
    return model.from_features() if config.data.cache == "features" else model


def judge(model: RCAUNet, fitted: keras.Model) -> tuple[keras.Model, dict]:
    """A model of the same weights to validate with, and the metrics to compile it with."""
    scores = [metrics.SaliencyMAE(name="mae"), metrics.SaliencyFMeasure(name="f")]
    return GroupModel(fitted.input, fitted.output), {"weighted_metrics": scores}


def _goes_on(config):
    """Whether the training starts from a network for groups."""
    return not names_backbone_weights(config.init) and find_start(config.init).task == RCAUNet.task


def _features_of(groups, model, most=1024):
    """What the pretrained part makes of about `most` images of the first epoch."""
    for inputs, _ in groups.epoch(0).take(math.ceil(most / (groups.batch_size * groups.images_per_group))):
        yield model.pretrained.predict_on_batch(inputs["images"].numpy()[inputs["mask"].numpy()])


def _features(config):
    return Path(config.data.features or Path(config.output) / "features")


def _split(config, output):
    data = config.data
    images, masks, root = folders(data, lambda: synthetic.write_groups(output / "shapes", data.synthetic, config.seed))
    if images is None:
        raise ConfigError(
            "data: says nothing about where the groups are. Give --set data.root=FOLDER with the subfolders images and "
            "masks, or data.images and data.masks."
        )
    listed = data.list
    if listed is None and root is not None and (root / LIST).is_file():
        listed = root / LIST
    if listed is None:
        training = pipelines.find_groups(images=images, masks=masks)
        splits = set()
    else:
        members = pipelines.read_group_list(listed).values()
        splits = {member.split for group in members for member in group}
        training = pipelines.read_groups(listed, images, masks, split="train" if "train" in splits else None)
    if isinstance(data.validation, str):
        validation = pipelines.read_groups(data.validation, images, masks)
    elif data.validation is None and {"train", VALIDATION} <= splits:
        validation = pipelines.read_groups(listed, images, masks, split=VALIDATION)
    else:
        count = max(1, round((data.validation or HELD_OUT) * len(training)))
        order = np.random.default_rng(config.seed).permutation(len(training))
        # an image by itself says nothing of how well a group is understood
        order = sorted(order, key=lambda index: len(training[index].own) < 2)
        validation = [training[index] for index in sorted(order[:count])]
        training = [training[index] for index in sorted(order[count:])]
    held_out = {name for group in validation for name in names_of(group.pairs)}
    kept = []
    for group in training:
        pairs = tuple(pair for pair in group.own if pair.name not in held_out)
        if pairs:
            kept.append(pipelines.Group(group.name, pairs, category=group.category))
    if not kept:
        raise DataError(
            f"data: {len(held_out)} images of {len(validation)} groups are held out for validation, and no group is "
            f"left to train on. Add groups, or give another data.validation."
        )
    return kept, validation


def _samples(groups, count):
    """The first group, or as much of it as is wanted, beside it."""
    inputs, masks = next(iter(groups.evaluation()))
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    return inputs, inputs["images"][0, :count], np.asarray(masks)[0, :count]
