"""Features of a frozen network, computed once per image and kept in files."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_recnet.files import atomic_path, sha256
from keras_recnet.parallel import cores, ordered_map
from keras_recnet.pipelines import Group, ImageSource, Pair
from keras_recnet.training.checkpoints import check_disk
from keras_recnet.training.data import ProgressLog, fingerprint

MANIFEST = "features.json"
MASKS = "masks"
BATCH_SIZE = 16  # of the frozen network
CHUNK = 256  # images read from the files at once


class FeatureSource:
    """`Source` of `SaliencyGroups` that reads features of a frozen network instead of images.

    A training step then runs only the layers after the frozen network. The features of every image, and with `mirrored`
    of its mirror image, are kept as float16 in the files of a folder. They are computed if they are missing, or if the
    images, the masks or the weights of the network have changed, and are read batch by batch, so they may be larger
    than memory.

    `read` returns the outputs of `model.pretrained` for one image.

    Args:
        model: an `RCAUNet` with frozen `pretrained` part.
        folder: folder of the feature files.
        mirrored: whether to use an image's mirror image half of the time; never in `evaluation()`.
        log: called with lines about progress.

    Raises:
        PipelineDataError: if a file cannot be used.
        DiskError: if the disk is too full for the features.
    """

    def __init__(
        self, model: keras.Model, folder: str | os.PathLike, *, mirrored: bool = False, log: Callable[[str], object]
    ):
        self.network = model.pretrained
        self.image_size = model.image_size
        self.folder = Path(folder)
        self.mirrored = mirrored
        self.log = log
        outputs = model.pretrained.output
        self.inputs = {name: (tuple(outputs[name].shape[1:]), np.float16) for name in sorted(outputs)}

    def open(self, pairs: Sequence[Pair], workers: int) -> None:
        """Open the feature files of all pairs, and compute the features if necessary."""
        self._rows = {pair: row for row, pair in enumerate(pairs)}
        views = 1 + self.mirrored
        shapes = {name: (views, len(pairs), *shape) for name, (shape, _) in self.inputs.items()}
        shapes[MASKS] = (len(pairs), *self.image_size)
        manifest = {
            "images": fingerprint(sha256(path) if path else "" for pair in pairs for path in (pair.image, pair.mask)),
            "weights": _weights_sum(self.network),
            "shapes": {name: list(shape) for name, shape in shapes.items()},
        }
        if _read_json(self.folder / MANIFEST) != manifest:
            self.folder.mkdir(parents=True, exist_ok=True)
            # a run that has the old files open can still read them after they are unlinked
            for name in (MANIFEST, *(f"{name}.npy" for name in shapes)):
                (self.folder / name).unlink(missing_ok=True)
            self._compute(shapes)
            with atomic_path(self.folder / MANIFEST) as temporary:
                temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        self._files = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in shapes}

    def draw(self, random: np.random.Generator, count: int) -> Sequence[bool]:
        """Return for each of `count` images whether to use its mirror image."""
        return self.mirrored * (random.random(count) < 0.5)

    def read(self, pair: Pair, draws: bool | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the features and the mask of one pair; those of its mirror image if `draws` is true."""
        row, view = self._rows[pair], int(draws or 0)
        mask = self._files[MASKS][row]
        return {name: self._files[name][view, row] for name in self.inputs}, mask[:, ::-1] if view else mask

    def chunks(self, names: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the named features of all images, not mirrored, for 256 images at a time."""
        for start in range(0, len(self._rows), CHUNK):
            yield {name: np.asarray(self._files[name][0, start : start + CHUNK], np.float32) for name in names}

    def similar_categories(self, groups: Iterable[Group], count: int) -> dict[str, list[str]]:
        """Return the `count` most similar categories of each category, the most similar first.

        The similarity of two categories is the cosine of their mean descriptors. An image's descriptor is the mean of
        its coarsest features, weighted by its mask, and standardized over all images.
        """
        name = min(self.inputs, key=lambda name: (np.prod(self.inputs[name][0][:2]), -self.inputs[name][0][2]))
        height, width, channels = self.inputs[name][0]
        descriptors = np.zeros((len(self._rows), channels))
        for start in range(0, len(descriptors), CHUNK):
            part = slice(start, start + CHUNK)
            masks = np.asarray(self._files[MASKS][part], np.float64)
            rows, columns = (length // cells for length, cells in zip(self.image_size, (height, width), strict=True))
            weights = masks.reshape(-1, height, rows, width, columns).mean(axis=(2, 4))[..., None] + 1e-3
            features = np.asarray(self._files[name][0, part], np.float64)
            descriptors[part] = (features * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
        descriptors = (descriptors - descriptors.mean(axis=0)) / (descriptors.std(axis=0) + 1e-6)
        members = {}
        for group in groups:
            members.setdefault(group.category, set()).update(self._rows[pair] for pair in group.own)
        means = np.stack([descriptors[sorted(rows)].mean(axis=0) for rows in members.values()])
        means /= np.linalg.norm(means, axis=1, keepdims=True) + 1e-6
        similarity = means @ means.T
        np.fill_diagonal(similarity, -np.inf)
        categories = list(members)
        order = np.argsort(-similarity, axis=1)[:, : min(count, len(categories) - 1)]
        return {category: [categories[i] for i in row] for category, row in zip(categories, order, strict=True)}

    def _compute(self, shapes):
        dtypes = {name: np.uint8 if name == MASKS else np.float16 for name in shapes}
        check_disk(self.folder, sum(np.prod(shape) * dtypes[name]().itemsize for name, shape in shapes.items()))
        files = {
            name: np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=dtypes[name], shape=shape)
            for name, shape in shapes.items()
        }
        reader = ImageSource(self.image_size, cache=None)
        images_and_masks = ordered_map(reader.read, self._rows, workers=cores())
        progress = ProgressLog(self.log, "Computing features")
        row, total = 0, len(self._rows)
        while row < total:
            inputs, masks = zip(*(next(images_and_masks) for _ in range(min(BATCH_SIZE, total - row))), strict=True)
            images = np.stack([arrays["images"] for arrays in inputs]).astype(np.float32)
            end = row + len(images)
            files[MASKS][row:end] = masks
            for view in range(1 + self.mirrored):
                outputs = self.network.predict_on_batch(images[:, :, ::-1] if view else images)
                for name in self.inputs:
                    files[name][view, row:end] = outputs[name]
            row = end
            progress(row, total)


def _weights_sum(network):
    sha = hashlib.sha256()
    for value in network.get_weights():
        sha.update(np.ascontiguousarray(value))
    return sha.hexdigest()


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
