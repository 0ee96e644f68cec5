"""Features of a frozen network, computed once per image and kept in files."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_recnet.files import atomic_path, locked, sha256
from keras_recnet.imaging.resizing import resize
from keras_recnet.parallel import cores, ordered_map
from keras_recnet.pipelines import CompositePair, ImageSource, Pair
from keras_recnet.training.checkpoints import check_disk
from keras_recnet.training.data import ProgressLog, fingerprint

MANIFEST, PARTIAL, LOCK = "features.json", "features.partial.json", "lock"
MASKS = "masks"
BATCH_SIZE = 16  # of the frozen network
CHUNK = 256  # images read from the files at once


class FeatureSource:
    """`Source` of `SaliencyGroups` that reads features of a frozen network instead of images.

    A training step then runs only the layers after the frozen network. The features of every image, and with `mirrored`
    of its mirror image, are kept as float16 in the files of a folder. They are computed if they are missing, or if the
    images, the masks or the weights of the network have changed, and are read batch by batch, so they may be larger
    than memory. An interrupted computation is continued. Masks are kept at the size of the outputs of
    `model.from_features()`, without gray levels: a network that learns gray edges at this size has soft edges at full
    size.

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
        self.image_size = tuple(model.from_features().output_shape[2:4])
        self.folder = Path(folder)
        self.mirrored = mirrored
        self.log = log
        self._features = _FeatureFiles(model.pretrained, self.folder, mirrored, log, mask_size=self.image_size)
        self.inputs = {name: (shape, np.float16) for name, shape in self._features.shapes.items()}

    def open(self, pairs: Sequence[Pair | CompositePair], workers: int) -> None:
        """Open the feature files of all pairs, and compute the features if necessary."""
        self.pairs = pairs
        self._rows = {pair: row for row, pair in enumerate(pairs)}
        self._fingerprint = fingerprint(_contents(pairs))
        self._features.open(pairs, self._fingerprint)

    def draw(self, random: np.random.Generator, count: int) -> Sequence[bool]:
        """Return for each of `count` images whether to use its mirror image."""
        return self.mirrored * _mirror(random, count)

    def read(
        self, pair: Pair | CompositePair, draws: bool | None = None
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Return the features and the masks of one pair; those of its mirror image if `draws` is true."""
        row, view, files = self._rows[pair], int(draws or 0), self._features.files
        masks = files[MASKS][row]
        return {name: files[name][view, row] for name in self.inputs}, masks[..., ::-1] if view else masks

    def close(self) -> None:
        """Do nothing: the features are read from files."""

    def outputs_of(self, network: keras.Model) -> np.ndarray:
        """Return the output of another frozen network for all pairs, in the order of `pairs`.

        It is kept in the same way as the features, in a subfolder with the name of the network.

        Args:
            network: model from images `(batch, height, width, 3)` to one tensor.

        Returns:
            An array in a file, `(views, pairs, …)`: the second view, if there is one, are the mirror images.
        """
        named = keras.Model(network.input, {network.name: network.output})
        named.jit_compile = False  # on a CPU, compilation takes longer than it saves
        outputs = _FeatureFiles(named, self.folder / network.name, self.mirrored, self.log)
        outputs.open(self.pairs, self._fingerprint)
        return outputs.files[network.name]


class _FeatureFiles:
    """Files with the outputs of a frozen network for a list of images, and with their masks if `mask_size` is given.

    Attributes:
        shapes: shape of each output of the network for one image.
        files: the opened files, by output: `(views, images, …)`; masks: `(images, objects, height, width)`.
    """

    def __init__(self, network, folder, mirrored, log, mask_size=None):
        self.network = network
        self.folder = folder
        self.mirrored = mirrored
        self.log = log
        self.mask_size = mask_size
        self.shapes = {name: tuple(network.output[name].shape[1:]) for name in sorted(network.output)}

    def open(self, pairs: Sequence[Pair | CompositePair], contents: str) -> None:
        """Open the files, and compute the features if they are missing or are not those of the pairs.

        Args:
            pairs: the images.
            contents: changes if an image or a mask changes.
        """
        shapes = {name: (1 + self.mirrored, len(pairs), *shape) for name, shape in self.shapes.items()}
        if self.mask_size is not None:
            objects = 1 + any(isinstance(pair, CompositePair) for pair in pairs)
            shapes[MASKS] = (len(pairs), objects, *self.mask_size)
        manifest = {
            "images": contents,
            "weights": _weights_sum(self.network),
            "shapes": {name: list(shape) for name, shape in shapes.items()},
        }
        if _read_json(self.folder / MANIFEST) != manifest:
            self.folder.mkdir(parents=True, exist_ok=True)
            waiting = f"Waiting for another run that computes features in {self.folder}"
            with locked(self.folder / LOCK, on_wait=lambda: self.log(waiting)):
                self._complete(pairs, shapes, manifest)
        self.files = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in shapes}

    def _complete(self, pairs, shapes, manifest):
        """Compute the features, unless another run has done it in the meantime."""
        if _read_json(self.folder / MANIFEST) != manifest:
            partial = _read_json(self.folder / PARTIAL) or {}
            done = partial.pop("rows", 0)
            if partial != manifest:
                done = 0
                # a run that has the old files open can still read them after they are unlinked
                for name in (MANIFEST, PARTIAL, *(f"{name}.npy" for name in shapes)):
                    (self.folder / name).unlink(missing_ok=True)
            self._compute(pairs, shapes, manifest, done)
            _write_json(self.folder / MANIFEST, manifest)
            (self.folder / PARTIAL).unlink(missing_ok=True)

    def _compute(self, pairs, shapes, manifest, row):
        """Compute the features from a row on."""
        dtypes = {name: np.uint8 if name == MASKS else np.float16 for name in shapes}
        total = len(pairs)
        needed = sum(np.prod(shape) * dtypes[name]().itemsize for name, shape in shapes.items())
        check_disk(self.folder, needed * (total - row) // total)
        files = {
            name: np.lib.format.open_memmap(
                self.folder / f"{name}.npy", mode="r+" if row else "w+", dtype=dtypes[name], shape=shape
            )
            for name, shape in shapes.items()
        }
        reader = ImageSource(self.network.input.shape[1:3], cache=None)
        images_and_masks = ordered_map(reader.read, pairs[row:], workers=cores())
        progress = ProgressLog(self.log, "Computing features")
        while row < total:
            inputs, masks = zip(*(next(images_and_masks) for _ in range(min(BATCH_SIZE, total - row))), strict=True)
            images = np.stack([arrays["images"] for arrays in inputs]).astype(np.float32)
            end = row + len(images)
            if MASKS in files:
                for place, objects in enumerate(masks, start=row):
                    for index, mask in enumerate(objects):
                        files[MASKS][place, index] = 255 * (resize(mask, self.mask_size) >= 128)
            for view in range(1 + self.mirrored):
                outputs = self.network.predict_on_batch(images[:, :, ::-1] if view else images)
                for name in self.shapes:
                    files[name][view, row:end] = outputs[name]
            row = end
            progress(row, total)
            if row % CHUNK == 0:
                for file in files.values():
                    file.flush()
                _write_json(self.folder / PARTIAL, {**manifest, "rows": row})


class MirroredImages(ImageSource):
    """Source of the images whose features `FeatureSource` reads with `mirrored`, in the same views.

    Args:
        image_size: side of the square images, or `(height, width)`.
    """

    def __init__(self, image_size: int | tuple[int, int]):
        super().__init__(image_size, cache=None)

    def draw(self, random: np.random.Generator, count: int) -> Sequence[bool]:
        """Return for each of `count` images whether to mirror it."""
        return _mirror(random, count)

    def read(
        self, pair: Pair | CompositePair, draws: bool | None = None
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Return the image and the masks of one pair, mirrored if `draws` is true."""
        inputs, masks = super().read(pair)
        image, *masks = (plane[:, ::-1] if draws else plane for plane in (inputs["images"], *masks))
        return {"images": image}, masks


def _mirror(random, count):
    return random.random(count) < 0.5


def _contents(pairs):
    """Yield texts that change if an image or a mask of the pairs changes, or the way they are combined."""
    sums = {None: ""}
    for pair in pairs:
        if isinstance(pair, CompositePair):
            yield f"{pair.seed} {pair.number}"
        for part in (pair.first, pair.second) if isinstance(pair, CompositePair) else (pair,):
            for path in (part.image, part.mask):
                if path not in sums:
                    sums[path] = sha256(path)
                yield sums[path]


def _weights_sum(network):
    sha = hashlib.sha256()
    for value in network.get_weights():
        sha.update(np.ascontiguousarray(value))
    return sha.hexdigest()


def _write_json(path, content):
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
