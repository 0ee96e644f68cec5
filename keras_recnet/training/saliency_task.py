"""Training of a RecNet on single images."""

import numpy as np

from keras_recnet import pipelines
from keras_recnet.errors import ConfigError, DataError
from keras_recnet.training import sample_sheet, synthetic
from keras_recnet.training.data import HELD_OUT, Data, ProgressLog, fingerprint, folders, names_of
from keras_recnet.training.task import TrainingTask


class SaliencyTask(TrainingTask):
    """Training of a RecNet on single images."""

    usage = "predict PHOTO.jpg"
    unit = "images"

    def build_data(self, files, model, log):
        config, (training, validation) = self.config, files
        options = {"batch_size": config.batch_size, "seed": config.seed, "cache": config.data.cache}
        augmentation = {}
        if config.data.augment is not None:
            augment = pipelines.Augment(**config.data.augment.model_dump())
            augmentation = {"augment": augment, "cache_size": config.data.cache_size}
        progress = ProgressLog(log, "Reading images")
        train_data = pipelines.SaliencyPairs(training, model.image_size, progress=progress, **options, **augmentation)
        eval_data = None
        if validation:
            eval_data = pipelines.SaliencyPairs(validation, model.image_size, drop_remainder=False, **options)

        def samples(count):
            shown = validation or training
            pairs = [shown[index] for index in sample_sheet.choose(count, len(shown))]
            batches = pipelines.SaliencyPairs(pairs, model.image_size, len(pairs), cache=None).evaluation()
            images, masks = next(batches.as_numpy_iterator())
            return images, images, masks

        return Data(
            training=train_data,
            validation=eval_data,
            fingerprint=fingerprint(names_of(training), names_of(validation)),
            samples=samples,
            counts=f"{len(training):,} training images, "
            + (f"{len(validation):,} validation images" if validation else "no validation"),
        )

    def loss(self, model):
        from keras_recnet import losses

        arguments = self.config.loss.model_dump()
        if model.branches == "foreground" and "cooperative_weight" not in self.config.loss.model_fields_set:
            arguments["cooperative_weight"] = 0.0  # needs two branches
        return losses.SaliencyLoss(**arguments)

    def eval_model(self, model, train_model):
        import keras

        from keras_recnet import metrics

        scores = [
            metrics.SaliencyMAE(fusion=model.fusion, name="mae"),
            metrics.SaliencyFMeasure(fusion=model.fusion, name="f"),
        ]
        return keras.Model(train_model.inputs, train_model.outputs), {"metrics": scores}

    def _from_preset(self, preset, arguments):
        from keras_recnet import models

        self._check_arguments(arguments, ("image_size", "fusion"))
        return models.RecNet.from_preset(self.config.init, **arguments)

    def _pairs(self, files):
        return files

    def _split(self, output, faults):
        config, data = self.config, self.config.data
        images, masks, root = folders(data, lambda: synthetic.write(output / "shapes", data.synthetic, config.seed))
        if images is None and data.list is None:
            raise ConfigError(
                "data: no images are given. Use --set data.root=FOLDER (with the subfolders images and masks), or set "
                "data.images and data.masks, or data.list."
            )
        held_out = data.validation
        if held_out is None:
            names_file = root / "validation.txt" if root else None
            held_out = str(names_file) if names_file is not None and names_file.is_file() else HELD_OUT
        pairs, validation = [], []
        with faults.collect():
            pairs = pipelines.find_pairs(images, masks, names=data.list, exclude=data.exclude)
        if isinstance(held_out, str):
            with faults.collect():
                validation = pipelines.find_pairs(images, masks, names=held_out)
        elif pairs:
            count = max(1, round(held_out * len(pairs))) if held_out else 0
            chosen = np.random.default_rng(config.seed).permutation(len(pairs))[:count]
            validation = [pairs[index] for index in sorted(chosen)]
        names = {pair.name for pair in validation}
        training = [pair for pair in pairs if pair.name not in names]
        with faults.collect():
            if pairs and not training:
                raise DataError(
                    f"data: {len(validation)} of {len(pairs)} images are held out for validation, and none is left for "
                    f"training. Add images, or change data.validation."
                )
        return training, validation
