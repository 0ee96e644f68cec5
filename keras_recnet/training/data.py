"""The `data` section → batches to train on and batches to validate on."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from keras_recnet import pipelines
from keras_recnet.errors import ConfigError, DataError
from keras_recnet.training import sample_sheet, synthetic
from keras_recnet.training.config.loading import Config
from keras_recnet.training.config.schema import DataConfig, GroupDataConfig

HELD_OUT = 0.1  # share of the images that validates when nothing else is said


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run trains and validates on.

    Attributes:
        training: batches of an epoch, a pure function of (seed, epoch, step).
        validation: batches in order, not augmented.
        fingerprint: short hash of the names on both sides.
        samples: gives so many images of the validation, always the same: what the whole model takes as its input, the
            images `(count, height, width, 3)` and the masks `(count, height, width, 1)`.
        counts: how many images there are on both sides, in words.
    """

    training: pipelines.SaliencyPairs | pipelines.SaliencyGroups
    validation: pipelines.SaliencyPairs | pipelines.SaliencyGroups
    fingerprint: str
    samples: Callable[[int], tuple]
    counts: str


def find(config: Config, output: str | os.PathLike) -> tuple[list, list]:
    """The pairs to train on and those to validate on, each file looked at.

    Args:
        config: the whole configuration.
        output: the run's folder, where synthetic pictures are written.

    Raises:
        ConfigError: if `data` does not say where the images are, or there are fewer than a batch.
        DataError: naming every file with a fault.
    """
    try:
        training, validation = _split(config, Path(output))
        if len(training) < config.batch_size:
            raise ConfigError(
                f"batch_size: {config.batch_size} is more than the {len(training)} images to train on. "
                f"Say --set batch_size={len(training)}, or add images."
            )
        # without the cache, which decodes every file anyway, a damaged one would be met in the middle of the training
        pipelines.check_pairs([*training, *validation], decode=config.data.cache is None)
    except pipelines.PipelineDataError as error:
        raise DataError(str(error)) from error
    return training, validation


def prepare(config: Config, pairs: tuple[list, list], image_size: tuple[int, int], say) -> Data:
    """Makes the pipelines, and fills their cache.

    Args:
        config: the whole configuration.
        pairs: what `find` gave.
        image_size: the model's height and width.
        say: called with lines that tell how far the cache is.

    Raises:
        DataError: naming every file with a fault, or when the cache does not fit in memory.
    """
    training, validation = pairs
    common = {"batch_size": config.batch_size, "seed": config.seed, "cache": config.data.cache}
    if config.data.augment is not None:
        augment = pipelines.Augment(**config.data.augment.model_dump())
        changes = {"augment": augment, "cache_size": config.data.cache_size}
    else:
        changes = {}
    try:
        to_train = pipelines.SaliencyPairs(training, image_size, progress=Reading(say), **common, **changes)
        to_validate = pipelines.SaliencyPairs(validation, image_size, drop_remainder=False, **common)
        return Data(
            training=to_train,
            validation=to_validate,
            fingerprint=fingerprint(names_of(training), names_of(validation)),
            samples=lambda count: _samples(to_validate, count),
            counts=f"{len(training):,} images to train on, {len(validation):,} to validate",
        )
    except pipelines.PipelineDataError as error:
        raise DataError(str(error)) from error


def _samples(validation, count):
    images, masks = sample_sheet.collect(validation.evaluation(), sample_sheet.choose(count, len(validation)))
    return images, images, masks


class Reading:
    """Says every ten seconds how many files are done."""

    def __init__(self, say, what: str = "Reading images into memory"):
        self.say, self.what = say, what
        self.last = time.monotonic()

    def __call__(self, done: int, total: int):
        now = time.monotonic()
        if now - self.last >= 10:
            self.last = now
            self.say(f"{self.what}: {done:,} of {total:,}")


def _split(config: Config, output: Path) -> tuple[list, list]:
    data = config.data
    images, masks, root = folders(data, lambda: synthetic.write(output / "shapes", data.synthetic, config.seed))
    if images is None and data.list is None:
        raise ConfigError(
            "data: says nothing about where the images are. Give --set data.root=FOLDER with the subfolders images and "
            "masks, or data.images and data.masks, or data.list."
        )
    held_out = data.validation
    if held_out is None:
        listed = root / "validation.txt" if root else None
        held_out = str(listed) if listed is not None and listed.is_file() else HELD_OUT
    pairs = pipelines.find_pairs(images, masks, names=data.list, exclude=data.exclude)
    if isinstance(held_out, str):
        validation = pipelines.find_pairs(images, masks, names=held_out)
        names = {pair.name for pair in validation}
    else:
        count = max(1, round(held_out * len(pairs)))
        chosen = np.random.default_rng(config.seed).permutation(len(pairs))[:count]
        validation = [pairs[index] for index in sorted(chosen)]
        names = {pair.name for pair in validation}
    training = [pair for pair in pairs if pair.name not in names]
    if not training:
        raise DataError(
            f"data: of {len(pairs)} images {len(validation)} are held out for validation, none is left to train on. "
            f"Add images, or give another data.validation."
        )
    return training, validation


def folders(
    data: DataConfig | GroupDataConfig, draw: Callable[[], tuple[Path, Path]]
) -> tuple[Path | None, Path | None, Path | None]:
    """The folders that a configuration names.

    Args:
        data: its section.
        draw: writes what `synthetic` asks for, and gives the two folders.

    Returns:
        Folder of images, folder of masks and `root`; None for what is not named.

    Raises:
        ConfigError: if the keys do not go together.
        DataError: if `root` is no folder.
    """
    if data.synthetic is not None:
        given = [name for name in ("root", "images", "masks", "list") if getattr(data, name) is not None]
        if given:
            raise ConfigError(f"data.synthetic: draws its own images, so data.{given[0]} cannot be given as well.")
        return *draw(), None
    root = None if data.root is None else Path(data.root)
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: no such folder. data.root is the folder that holds images/ and masks/.")
    images, masks = (
        Path(folder) if folder is not None else root / name if root is not None else None
        for name, folder in (("images", data.images), ("masks", data.masks))
    )
    if (images is None) != (masks is None):
        raise ConfigError("data: data.images and data.masks belong together. Give both, or data.root.")
    return images, masks, root


def names_of(pairs: Iterable[pipelines.Pair]) -> list[str]:
    """The pairs' names."""
    return [pair.name for pair in pairs]


def fingerprint(*sides: Iterable[str]) -> str:
    """Short hash of lists of names."""
    names = "\n\n".join("\n".join(side) for side in sides)
    return hashlib.sha256(names.encode("utf-8")).hexdigest()[:16]
