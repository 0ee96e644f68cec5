"""Groups as batches of what a frozen network makes of their images, computed once and kept in files."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_recnet.files import atomic_path, sha256
from keras_recnet.parallel import cores, ordered
from keras_recnet.pipelines import Group, SaliencyGroups
from keras_recnet.training.checkpoints import check_disk
from keras_recnet.training.data import Reading, fingerprint

MANIFEST = "features.json"
MASKS = "masks"
CHUNK = 16  # images that the network sees at once


def is_made(folder: Path) -> bool:
    """Whether features lie in the folders `training` and `validation` of `folder`, of whatever images."""
    return all((folder / part / MANIFEST).is_file() for part in ("training", "validation"))


class GroupFeatures(SaliencyGroups):
    """`SaliencyGroups` of features in place of images: a step trains what comes behind a frozen network, and no more.

    The features of every image, and of its mirror image when `mirrored`, lie as float16 in the files of a folder. They
    are made when they are missing or were made of other images or masks or by other weights, and are read a batch at a
    time, so that they may be larger than the memory.

    Args:
        groups: sequence of `Group`.
        model: an `RCAUNet` whose `pretrained` part is frozen.
        folder: where the features are kept.
        batch_size: groups a batch.
        say: called with lines that tell how far the computation is.
        mirrored: show an image's mirror image half of the time; off in `evaluation()`.
        near: number of categories most similar to a group's own, by the features of their salient objects; 0:
            distractors are drawn evenly.
        near_share: share of the distractors that come from these (ours; the hard negatives of Schroff et al.,
            "FaceNet", CVPR 2015, of whole categories).
        **options: `images_per_group`, `seed`, `distractors` and `drop_remainder` of `SaliencyGroups`.

    Raises:
        PipelineDataError: if a file cannot be used.
        DiskError: if the disk has no room for the features.

    Batches:
        `(inputs, targets)`: inputs a dict of the pretrained part's outputs, each `(batch, N, …)` float32, 0 where
        padded, and `"mask"`, `(batch, N)` bool; targets `(batch, N, height, width, 1)` as those of `SaliencyGroups`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        model: keras.Model,
        folder: str | os.PathLike,
        batch_size: int,
        *,
        say,
        mirrored: bool = False,
        near: int = 0,
        near_share: float = 0.5,
        **options,
    ):
        super().__init__(groups, model.image_size, batch_size, cache=None, **options)
        self.mirrored = mirrored
        outputs = model.pretrained.output
        self._names = sorted(outputs)
        self._shapes = {name: tuple(outputs[name].shape[1:]) for name in self._names}
        self._files = self._open(model.pretrained, Path(folder), Reading(say, "Computing features of images"))
        if near and self._distractors.pairs:
            self._distractors.prefer(self.near_categories(near), near_share)

    def near_categories(self, count: int) -> dict[str, list[str]]:
        """For each category the `count` others that are most like it, the nearest first.

        Compared are the categories' means of the coarsest features, weighted by the images' masks and standardised over
        all images, by their cosine.
        """
        name = min(self._names, key=lambda name: (np.prod(self._shapes[name][:2]), -self._shapes[name][2]))
        height, width, channels = self._shapes[name]
        described = np.zeros((len(self._rows), channels))
        for start in range(0, len(described), 256):
            part = slice(start, start + 256)
            masks = np.asarray(self._files[MASKS][part], np.float64)
            rows, columns = (length // cells for length, cells in zip(self.image_size, (height, width), strict=True))
            weights = masks.reshape(-1, height, rows, width, columns).mean(axis=(2, 4))[..., None] + 1e-3
            features = np.asarray(self._files[name][0, part], np.float64)
            described[part] = (features * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
        described = (described - described.mean(axis=0)) / (described.std(axis=0) + 1e-6)
        members = {}
        for group in self.groups:
            members.setdefault(group.category, set()).update(self._rows[pair] for pair in group.own)
        means = np.stack([described[sorted(rows)].mean(axis=0) for rows in members.values()])
        means /= np.linalg.norm(means, axis=1, keepdims=True) + 1e-6
        likeness = means @ means.T
        np.fill_diagonal(likeness, -np.inf)
        categories = list(members)
        nearest = np.argsort(-likeness, axis=1)[:, : min(count, len(categories) - 1)]
        return {category: [categories[i] for i in row] for category, row in zip(categories, nearest, strict=True)}

    def each(self, names) -> Iterator[dict[str, np.ndarray]]:
        """Some of the features of all images as they are, not mirrored, 256 images at a time."""
        for start in range(0, len(self._rows), 256):
            yield {name: np.asarray(self._files[name][0, start : start + 256], np.float32) for name in names}

    @property
    def DTYPES(self):  # a constant of the class in the base
        return (*(tf.float16 for _ in self._names), tf.bool, tf.uint8)

    def _draws(self, random):
        """Which view of an image each of a group's places shows: 1 is its mirror image."""
        return self.mirrored * (random.random(self.images_per_group) < 0.5)

    def _batch(self, parts, draws, array, length):
        del array  # of images; these batches come from the files
        features = [np.zeros((len(parts), length, *self._shapes[name]), np.float16) for name in self._names]
        mask = np.zeros((len(parts), length), bool)
        targets = np.zeros((len(parts), length, *self.image_size, 1), np.uint8)
        for i, part in enumerate(parts):
            for n, (pair, distractors) in enumerate(part):
                row, view = self._rows[pair], 0 if draws is None else int(draws[i][n])
                for name, values in zip(self._names, features, strict=True):
                    values[i, n] = self._files[name][view, row]
                mask[i, n] = True
                if not distractors:
                    target = self._files[MASKS][row]
                    targets[i, n, ..., 0] = target[:, ::-1] if view else target
        return *features, mask, targets

    def _to_tensors(self, *arrays, training):
        *features, mask, targets = arrays
        size = self.batch_size if training and self.drop_remainder else None
        length = self.images_per_group if training else None
        inputs = {
            name: tf.cast(tf.ensure_shape(values, (size, length, *self._shapes[name])), tf.float32)
            for name, values in zip(self._names, features, strict=True)
        }
        targets = tf.ensure_shape(targets, (size, length, *self.image_size, 1))
        return {**inputs, "mask": tf.ensure_shape(mask, (size, length))}, tf.cast(targets, tf.float32) / 255.0

    def _open(self, network, folder, progress):
        """The features' and the masks' files, opened to read: name → array."""
        shapes = {name: (1 + self.mirrored, len(self._rows), *shape) for name, shape in self._shapes.items()}
        shapes[MASKS] = (len(self._rows), *self.image_size)
        manifest = {
            "images": fingerprint(
                sha256(path) if path else "" for pair in self._rows for path in (pair.image, pair.mask)
            ),
            "weights": _sum_of(network),
            "shapes": {name: list(shape) for name, shape in shapes.items()},
        }
        if _read(folder / MANIFEST) != manifest:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (MANIFEST, *(f"{name}.npy" for name in shapes)):
                (folder / name).unlink(missing_ok=True)  # another run that reads them keeps what it has open
            self._compute(network, folder, shapes, progress)
            with atomic_path(folder / MANIFEST) as temporary:
                temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}

    def _compute(self, network, folder, shapes, progress):
        dtypes = {name: np.uint8 if name == MASKS else np.float16 for name in shapes}
        check_disk(folder, sum(np.prod(shape) * dtypes[name]().itemsize for name, shape in shapes.items()))
        files = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtypes[name], shape=shape)
            for name, shape in shapes.items()
        }
        pictures = ordered(lambda pair: self._picture(pair, None, None), self._rows, workers=cores())
        row, total = 0, len(self._rows)
        while row < total:
            images, masks = zip(*(next(pictures) for _ in range(min(CHUNK, total - row))), strict=True)
            images, end = np.stack(images).astype(np.float32), row + len(images)
            files[MASKS][row:end] = masks
            for view in range(1 + self.mirrored):
                seen = network.predict_on_batch(images[:, :, ::-1] if view else images)
                for name in self._names:
                    files[name][view, row:end] = seen[name]
            row = end
            progress(row, total)


def _sum_of(network):
    sha = hashlib.sha256()
    for value in network.get_weights():
        sha.update(np.ascontiguousarray(value))
    return sha.hexdigest()


def _read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
