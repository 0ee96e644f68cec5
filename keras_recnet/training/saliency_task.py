"""Training of a RecNet on single images."""

import os
import sys
from pathlib import Path

import numpy as np

from keras_recnet import pipelines
from keras_recnet.errors import ConfigError, DataError
from keras_recnet.parallel import cores
from keras_recnet.training import sample_sheet, synthetic, teacher
from keras_recnet.training.data import HELD_OUT, Data, ProgressLog, fingerprint, names_of, places
from keras_recnet.training.task import TrainingTask

VALIDATION = "validation.txt"  # list of names in `data.root`
ROW = 8  # images per row of a preview


class SaliencyTask(TrainingTask):
    """Training of a RecNet on single images."""

    usage = "predict PHOTO.jpg"
    unit = "images"

    def check_keys(self):
        config, data = self.config.teacher, self.config.data
        if config is not None:
            teacher.check(config)
        elif any(entry.unlabeled is not None for entry in (data, *(data.roots or ()))):
            raise ConfigError(f"data.unlabeled: images without masks need the maps of a teacher. {teacher.SOURCES}.")

    def predict_targets(self, files, log):
        config = self.config.teacher
        if config is None or config.maps is not None:
            return files
        training, validation = files
        return teacher.predict_maps(config, training, self._map_folder, log), validation

    def build_data(self, files, model, log):
        config, (training, validation) = self.config, files
        options = {
            "batch_size": config.batch_size,
            "seed": config.seed,
            "cache": config.data.cache,
            "workers": max(2, cores()),
        }
        progress = ProgressLog(log, "Reading images")
        train_data = pipelines.SaliencyPairs(
            training, model.image_size, progress=progress, **options, **self._augmentation()
        )
        eval_data = None
        if validation:
            eval_data = pipelines.SaliencyPairs(validation, model.image_size, drop_remainder=False, **options)

        def samples(count):
            shown = validation or training
            pairs = [shown[index] for index in sample_sheet.choose(count, len(shown))]
            batches = pipelines.SaliencyPairs(pairs, model.image_size, len(pairs), cache=None).evaluation()
            images, masks = next(batches.as_numpy_iterator())
            return images, images, masks

        unlabeled = sum(pair.mask is None for pair in training)
        return Data(
            training=train_data,
            validation=eval_data,
            fingerprint=fingerprint(names_of(training), names_of(validation), *self._teacher_names()),
            samples=samples,
            counts=f"{len(training):,} training images{f' ({unlabeled:,} without masks)' if unlabeled else ''}, "
            + (f"{len(validation):,} validation images" if validation else "no validation"),
        )

    def preview(self, files, model):
        data = pipelines.SaliencyPairs(
            files[0], model.image_size, self.config.batch_size, self.config.seed, cache=None, **self._augmentation()
        )
        for images, masks in data.training(sys.maxsize // data.steps_per_epoch).as_numpy_iterator():
            cells = [sample_sheet.Cell(*pair) for pair in zip(images, masks, strict=True)]
            yield [("", cells[start : start + ROW]) for start in range(0, len(cells), ROW)]

    def loss(self, model):
        from keras_recnet import losses

        arguments = self.config.loss.model_dump(exclude={"imagenet_weight"})
        if model.branches == "foreground" and "cooperative_weight" not in self.config.loss.model_fields_set:
            arguments["cooperative_weight"] = 0.0  # needs two branches
        return losses.SaliencyLoss(**arguments)

    def train_model(self, model):
        weight = self.config.loss.imagenet_weight
        if not weight:
            return model
        from keras_recnet.training.imagenet_features import keep_imagenet_features

        return keep_imagenet_features(model, weight)

    def eval_model(self, model):
        import keras

        from keras_recnet import metrics

        scores = [
            metrics.SaliencyMAE(fusion=model.fusion, name="mae"),
            metrics.SaliencyFMeasure(fusion=model.fusion, name="f"),
        ]
        return keras.Model(model.inputs, model.outputs), {"metrics": scores}

    def _from_preset(self, preset, arguments):
        from keras_recnet import models

        changes = self._changes(preset, arguments, ("image_size", "fusion"))
        return models.RecNet.from_preset(self.config.init, **changes)

    def _augmentation(self):
        """Return the arguments of `SaliencyPairs` for the augmentation."""
        data = self.config.data
        if data.augment is None:
            return {}
        return {"augment": pipelines.Augment(**data.augment.model_dump()), "cache_size": data.cache_size}

    @property
    def _map_folder(self):
        return teacher.map_folder(self.config.teacher, self.config.output)

    def _teacher_names(self):
        """Return a list with the name of the folder of a teacher's maps, which depends on the teacher's weights."""
        return [] if self.config.teacher is None else [[self._map_folder.name]]

    def _pairs(self, files):
        return files

    def _split(self, output, faults):
        config, data = self.config, self.config.data
        pairs, unlabeled, listed, has_listed, has_masks, validation = [], [], [], False, False, []
        for place in places(data, lambda: synthetic.write(output / "shapes", data.synthetic, config.seed)):
            folders, keys = (place.images, place.masks), place.keys
            if place.unlabeled is not None:
                with faults.collect():
                    unlabeled += _unlabeled_pairs(place)
                if place.images is None and keys.list is None:
                    continue
            if place.images is None and keys.list is None:
                raise ConfigError(
                    "data: no images are given. Use --set data.root=FOLDER (with the subfolders images and masks), or "
                    "set data.images and data.masks, or data.list."
                )
            has_masks = True
            with faults.collect():
                pairs += place.renamed(pipelines.find_pairs(*folders, names=keys.list, exclude=keys.exclude))
            names = data.validation
            if names is None and place.root is not None and (place.root / VALIDATION).is_file():
                names = place.root / VALIDATION
            if isinstance(names, str | Path):
                has_listed = True
                with faults.collect():
                    listed += place.renamed(pipelines.find_pairs(*folders, names=names))
        if has_listed:
            validation = listed
        elif pairs:
            share = HELD_OUT if data.validation is None else data.validation
            count = max(1, round(share * len(pairs))) if share else 0
            chosen = np.random.default_rng(config.seed).permutation(len(pairs))[:count]
            validation = [pairs[index] for index in sorted(chosen)]
        held_out = {os.path.realpath(pair.image) for pair in validation}
        training = [pair for pair in pairs if os.path.realpath(pair.image) not in held_out]
        with_mask = held_out | {os.path.realpath(pair.image) for pair in training}
        training += [pair for pair in unlabeled if os.path.realpath(pair.image) not in with_mask]
        with faults.collect():
            if pairs and not training:
                raise DataError(
                    f"data: {len(validation)} of {len(pairs)} images are held out for validation, and none is left for "
                    f"training. Add images, or change data.validation."
                )
        with faults.collect():
            if not has_masks and data.validation != 0:
                raise ConfigError(
                    "data.validation: validation needs images with masks, and data.unlabeled has none. Add images with "
                    "masks (--set data.root=FOLDER), or train without validation: --set data.validation=0 --set "
                    "preset.weights=last"
                )
        if config.teacher is not None and config.teacher.maps is not None:
            with faults.collect():
                training = teacher.add_maps(training, Path(config.teacher.maps), config.teacher.weight)
        return training, validation


def _unlabeled_pairs(place):
    """Return the images without masks of a place; their names start with `unlabeled/`."""
    images = pipelines.find_images(place.unlabeled)
    return place.renamed(pipelines.Pair(f"unlabeled/{name}", path, None) for name, path in images.items())
