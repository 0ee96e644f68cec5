"""Training of an RCAUNet on groups of images."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np

from keras_recnet import pipelines
from keras_recnet.errors import ConfigError, DataError
from keras_recnet.pipelines.group_lists import parse_group_list
from keras_recnet.presets import COSALIENCY
from keras_recnet.training import sample_sheet, synthetic
from keras_recnet.training.config.schema import AugmentConfig
from keras_recnet.training.data import HELD_OUT, Data, Faults, ProgressLog, fingerprint, names_of, places
from keras_recnet.training.task import TrainingTask

LIST = "groups.csv"
TRAINING, VALIDATION = "train", "validation"  # values of the list's column `split`
COMPOSITES_SEED = 1  # the same for all runs, so that runs with different seeds can use the same cached features


class CoSaliencyTask(TrainingTask):
    """Training of an RCAUNet on groups of images, or on cached features of its frozen part."""

    usage = "cosal FOLDER"
    unit = "groups"

    def check_keys(self):
        config, faults = self.config, Faults()
        with faults.collect():
            if config.loss.co_perceptual is not None and self._cached_features:
                raise ConfigError(
                    "loss.co_perceptual: needs the images, which `data.cache: features` does not keep. Use --set "
                    "data.cache=memory, or --set loss.co_perceptual=null."
                )
            if self._cached_features and config.data.augment != AugmentConfig():
                raise ConfigError(
                    "data.augment: cached features are those of each image and of its mirror image, without other "
                    "augmentation. Remove this key, or use --set data.cache=memory."
                )
            for key in self._embedding_keys:
                if not self._cached_features:
                    raise ConfigError(
                        f"{key}: is implemented for cached features only. Use --set data.cache=features, or --set "
                        f"{key}=0."
                    )
        faults.raise_all()

    def steps_per_epoch(self, training):
        return len(training) * self.config.data.passes // self.config.batch_size

    def build_data(self, files, model, log):
        training, validation = files
        cached = self._cached_features
        if cached and not model.freeze_pretrained:
            raise ConfigError(
                "data.cache: features can only be cached if the network that computes them is frozen. Use --set "
                "model.freeze_pretrained=true, or --set data.cache=memory."
            )
        for key in self._embedding_keys:
            if model.recnet is None:
                raise ConfigError(
                    f"{key}: only the edge version (a network that starts from a saliency preset) has the embedding "
                    f"that this trains. Use --set {key}=0."
                )
        train_source, eval_source = self._sources(model, log)
        train_data = self._training_groups(training, train_source)
        self._groups = len(train_data.group_names)
        eval_data = pipelines.SaliencyGroups(validation, eval_source, 1, drop_remainder=False) if validation else None
        sample_data = pipelines.SaliencyGroups(
            validation or training, pipelines.ImageSource(model.image_size, cache=None), 1, drop_remainder=False
        )
        names, held_out = (
            [f"{group.name}/{name}" for group in groups for name in names_of(group.pairs)]
            for groups in (training, validation)
        )
        return Data(
            training=train_data,
            validation=eval_data,
            fingerprint=fingerprint(names, held_out),
            samples=lambda count: _samples(sample_data, count),
            counts=f"{len(training):,} training groups ({len(names):,} images), "
            + (f"{len(validation):,} validation groups ({len(held_out):,} images)" if validation else "no validation"),
        )

    def initialize(self, model, data, log):
        steps = self.config.embedding_steps
        if steps > 0:
            from keras_recnet.training.embedding import pretrain_embedding

            pretrain_embedding(model, data.training.source, steps, self.config.seed, log)

    def preview(self, files, model):
        data = self._training_groups(files[0], self._preview_source(model.image_size))
        batches = data.training(sys.maxsize // data.steps_per_epoch).as_numpy_iterator()
        for number, (inputs, masks) in enumerate(batches):
            epoch, step = divmod(number, data.steps_per_epoch)
            rows = []
            for index in range(len(masks)):
                group, pairs, objects = data.members(epoch, step * data.batch_size + index)
                cells = [
                    sample_sheet.Cell(
                        inputs["images"][index, n],
                        masks[index, n],
                        distractor=shown is None,
                        composite=isinstance(pair, pipelines.CompositePair),
                    )
                    for n, (pair, shown) in enumerate(zip(pairs, objects, strict=True))
                ]
                rows.append((group.name, cells))
            yield rows

    def loss(self, model):
        from keras_recnet import losses

        arguments = self.config.loss.model_dump(exclude={"classification_weight"})
        perceptual = arguments.pop("co_perceptual")
        if perceptual is not None:
            perceptual = losses.CoPerceptualLoss(**perceptual)
            perceptual.prepare(model.image_size)
        return losses.CoSaliencyLoss(**arguments, co_perceptual=perceptual)

    def train_model(self, model):
        if not self._cached_features:
            return model
        weight = self.config.loss.classification_weight
        return model.from_features(self._groups if weight else None, weight)

    def eval_model(self, model):
        from keras_recnet import metrics
        from keras_recnet.models._group_model import GroupModel

        scores = [metrics.SaliencyMAE(name="mae"), metrics.SaliencyFMeasure(name="f")]
        model = model.from_features() if self._cached_features else model
        return GroupModel(model.input, model.output), {"weighted_metrics": scores}

    def _training_groups(self, groups, source):
        """Return the training batches of groups, read from a source."""
        data, options = self.config.data, {}
        try:
            if data.composites is not None:
                composites = pipelines.plan_composites(groups, data.composites.count, COMPOSITES_SEED)
                options = {"composites": composites, "composite_share": data.composites.share}
            return pipelines.SaliencyGroups(
                groups * data.passes,
                source,
                self.config.batch_size,
                data.images_per_group,
                self.config.seed,
                distractors=data.distractors,
                category_share=data.category_share,
                small_group_share=data.small_group_share,
                group_numbers=self.config.loss.classification_weight > 0,
                **options,
            )
        except ValueError as error:
            raise ConfigError(f"data: {error}") from error

    @property
    def _embedding_keys(self):
        """Keys of the configuration that need an embedding and cached features."""
        keys = {
            "loss.classification_weight": self.config.loss.classification_weight,
            "embedding_steps": self.config.embedding_steps,
        }
        return [key for key, value in keys.items() if value]

    @property
    def _cached_features(self):
        return self.config.data.cache == "features"

    @property
    def _feature_folder(self):
        return Path(self.config.data.features or Path(self.config.output) / "features")

    def _sources(self, model, log):
        """Return the sources of the training and the validation data."""
        data, size = self.config.data, model.image_size
        if self._cached_features:
            from keras_recnet.training.feature_cache import FeatureSource

            return (
                FeatureSource(model, self._feature_folder / "training", mirrored=True, log=log),
                FeatureSource(model, self._feature_folder / "validation", log=log),
            )
        augment = None if data.augment is None else pipelines.Augment(**data.augment.model_dump())
        progress = ProgressLog(log, "Reading images")
        return (
            pipelines.ImageSource(size, augment, data.cache, data.cache_size, progress=progress),
            pipelines.ImageSource(size, cache=None),
        )

    def _preview_source(self, size):
        """Return a source of the training images, or of the images whose cached features are used for training."""
        if self._cached_features:
            from keras_recnet.training.feature_cache import MirroredImages

            return MirroredImages(size)
        augment = self.config.data.augment
        return pipelines.ImageSource(size, augment and pipelines.Augment(**augment.model_dump()), cache=None)

    def _from_preset(self, preset, arguments):
        from keras_recnet import models

        init = self.config.init
        if preset.task == COSALIENCY:
            self._changes(preset, arguments)
            return models.RCAUNet.from_preset(init)
        if "backbone" in arguments:
            raise ConfigError(f"model.backbone: is defined by the preset in `init`. Received: init={init!r}")
        return models.RCAUNet.from_recnet(init, **arguments)

    @property
    def _decoded(self):
        return self._cached_features and _is_complete(self._feature_folder)

    def _pairs(self, files):
        return (pair for group in files for pair in group.pairs)

    def _split(self, output, faults):
        config, data = self.config, self.config.data
        training, listed, validation, has_listed = [], [], [], False
        for place in places(data, lambda: synthetic.write_groups(output / "shapes", data.synthetic, config.seed)):
            found, found_listed, splits = self._read(place, faults)
            training += found
            listed += found_listed
            has_listed |= {TRAINING, VALIDATION} <= splits
            if isinstance(data.validation, str):
                with faults.collect():
                    validation = pipelines.read_groups(data.validation, place.images, place.masks)
        if data.validation is None and has_listed:
            validation = listed
        elif training and not isinstance(data.validation, str):
            share = HELD_OUT if data.validation is None else data.validation
            count = max(1, round(share * len(training))) if share else 0
            order = np.random.default_rng(config.seed).permutation(len(training))
            # groups of one image are held out last: they do not show how well the network uses a group
            order = sorted(order, key=lambda index: len(training[index].own) < 2)
            validation = [training[index] for index in sorted(order[:count])]
            training = [training[index] for index in sorted(order[count:])]
        held_out = {os.path.realpath(pair.image) for group in validation for pair in group.pairs}
        kept = []
        for group in training:
            pairs = tuple(pair for pair in group.own if os.path.realpath(pair.image) not in held_out)
            if pairs:
                kept.append(dataclasses.replace(group, pairs=pairs, distractors=()))
        with faults.collect():
            if training and not kept:
                raise DataError(
                    f"data: {len(held_out)} images of {len(validation)} groups are held out for validation, and no "
                    f"group is left for training. Add groups, or change data.validation."
                )
        return kept, validation

    def _read(self, place, faults):
        """Return the training groups of a place, the groups with the split `validation`, and the splits of its list."""
        images, masks = place.images, place.masks
        if images is None:
            raise ConfigError(
                "data: no groups are given. Use --set data.root=FOLDER (with the subfolders images and masks), or set "
                "data.images and data.masks."
            )
        list_file = place.keys.list
        if list_file is None and place.root is not None and (place.root / LIST).is_file():
            list_file = place.root / LIST
        training, validation, splits = [], [], set()
        with faults.collect():
            if list_file is not None and self.config.data.split is not None:
                raise ConfigError(
                    "data.split: halves the images of each subfolder, as `keras-recnet evaluate --split-seed` does, "
                    f"and cannot be combined with the list {list_file}. Set data.images and data.masks instead of "
                    "data.root and data.list."
                )
            if list_file is None:
                training = pipelines.find_groups(images=images, masks=masks)
            else:
                members, _ = parse_group_list(list_file)
                splits = {member.split for group in members.values() for member in group}
                # without splits, all lines are used
                split = TRAINING if splits - {""} else None
                training = pipelines.read_groups(list_file, images, masks, split=split)
        if training and self.config.data.split is not None:
            halves = pipelines.split_groups(training, seed=self.config.data.split.seed)
            training = halves[("train", "test").index(self.config.data.split.part)]
        if self.config.data.validation is None and {TRAINING, VALIDATION} <= splits:
            with faults.collect():
                validation = pipelines.read_groups(list_file, images, masks, split=VALIDATION)
        return self._named(training, place), self._named(validation, place), splits

    @staticmethod
    def _named(groups, place):
        """Return the groups with the prefix of their place; the categories of a list are common to all places."""
        return [
            dataclasses.replace(
                group,
                name=place.prefix + group.name,
                pairs=tuple(place.renamed(group.pairs)),
                category="" if group.category == group.name else group.category,
                several_objects=place.keys.several_objects,
            )
            for group in groups
        ]


def _is_complete(folder: Path) -> bool:
    """Return whether `folder/training` and `folder/validation` contain features, no matter of which images."""
    return all((folder / part / "features.json").is_file() for part in ("training", "validation"))


def _samples(groups, count):
    """Return the first group as model input, and up to `count` of its images and masks."""
    inputs, masks = next(groups.evaluation().as_numpy_iterator())
    return inputs, inputs["images"][0, :count], masks[0, :count]
