"""Predict the co-saliency maps of groups of images: `cosaliency` for one group, `GroupPredictor` for many."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, overload

import numpy as np

from keras_recnet import presets
from keras_recnet.errors import ImageError, MissingExtraError, PresetError
from keras_recnet.imaging.reading import MAX_PIXELS, DecodedImage
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.inference.group_stream import GroupMap, GroupStream
from keras_recnet.inference.predictor import height_and_width, read_snapshot, select_engine, snapshots
from keras_recnet.parallel import cores, ordered_map

DEFAULT_GROUP_PRESET = "rcau_lite0"
KEEP_FEATURES = 128


class GroupPredictor:
    """Predicts maps of the objects that the images of a group have in common, with a network that is loaded once.

    First, each image is encoded and added to the group's state; then each is decoded with the final state. Memory use
    does not grow with the size of the group: the features of the first `keep_features` images are stored in a
    temporary file, the other images are read and encoded a second time.

    Several threads may call a predictor at once. For a group of one image, the map shows what is salient in that image.

    Args:
        preset: name of a shipped preset of an `RCAUNet`, or a preset folder.
        engine: as in `Predictor`.
        precision: as in `Predictor`.
        size: input height and width of the network, one number or two; None: the preset's own. A different size needs
            the Keras engine, and a network without a recurrent unit with spatial attention.
        threads: number of threads of the LiteRT engine per image; cores // `threads` images are encoded in parallel.
        max_pixels: as in `Predictor`.
        keep_features: number of images per group whose features are stored. `rcau_lite0` needs 0.9 MB of temporary
            disk space per image.

    Attributes:
        preset: the `keras_recnet.presets.Preset`.
        engine: the engine that runs the network, with `.name`, `.size`, `.threads`.
        engine_note: why the Keras engine was selected, or None.

    Raises:
        PresetError: if the preset does not exist, is damaged, is for single images or a different size, or lacks what
            the engine needs.
        MissingExtraError: if the engine's package is not installed.

    Example:
        >>> predictor = GroupPredictor()
        >>> maps = predictor(["a.jpg", "b.jpg", "c.jpg"])
        >>> for saliency, variance in predictor.map(paths, orders=5):
        ...     print(saliency.mean(), variance.mean())
    """

    def __init__(
        self,
        preset: str | os.PathLike = DEFAULT_GROUP_PRESET,
        *,
        engine: str | None = None,
        precision: str = "float16",
        size: int | tuple[int, int] | None = None,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
        keep_features: int = KEEP_FEATURES,
    ):
        self.preset = presets.find(preset)
        if self.preset.task != presets.COSALIENCY:
            raise PresetError(
                f"{self.preset.folder}: expected a preset of an RCAUNet, for groups. For single images use "
                f"`keras-recnet predict`, in Python Predictor. Received: a preset for {self.preset.task}"
            )
        self.max_pixels, self.keep_features = max_pixels, keep_features
        size = height_and_width(size)
        self.preset.check_size(size)
        name, self.engine_note = select_engine(self.preset, engine, precision=precision, size=size)
        self.precision = precision if name == "litert" else "float32"
        if name == "keras":
            from keras_recnet.inference.group_engines import KerasGroupEngine

            self.engine = KerasGroupEngine(self.preset, size=size)
        else:
            from keras_recnet.inference.group_engines import LiteRTGroupEngine

            self.engine = LiteRTGroupEngine(self.preset.file(presets.LITERT_FILES[precision]), threads=threads)

    def __str__(self):
        height, width = self.engine.size
        int8 = " int8" if self.precision == "int8" else ""
        return f"{self.preset.name}, {self.engine.name}{int8} {height}×{width}, {self.engine.device}"

    def __call__(self, images: Iterable, *, orders: int = 1, seed: int = 0) -> list[np.ndarray]:
        """Predict the maps of one group.

        Args:
            images: the images of the group: paths, the bytes of files, `PIL.Image.Image`s or RGB arrays; see
                `keras_recnet.imaging.reading.read`.
            orders: as in `map`.
            seed: as in `map`.

        Returns:
            A map per image: float32 `(H, W)` in 0…1, at the size of the image after EXIF rotation.

        Raises:
            ValueError: if there is no image.
            ImageError: if an image cannot be read or is too large.
        """
        return [result.saliency for result in self.map(images, orders=orders, seed=seed)]

    @overload
    def map(
        self,
        images: Iterable,
        *,
        orders: int = 1,
        seed: int = 0,
        jobs: int | None = None,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[GroupMap]: ...

    @overload
    def map(
        self, images: Iterable, *, orders: int = 1, seed: int = 0, jobs: int | None = None, errors: str
    ) -> Iterator[GroupMap | ImageError]: ...

    def map(self, images, *, orders=1, seed=0, jobs=None, errors="raise"):
        """Predict the maps of one group, in the order of its images.

        Args:
            images: as for a call. They are read twice, so an iterator is converted to a list; for large groups pass
                paths, not arrays.
            orders: K. The state of a recurrent unit depends on the order of the images, so it is averaged over K
                orders, the given one and K - 1 random ones, and the variance of the K maps is returned too.
            seed: seed of the random orders.
            jobs: number of threads; None: one more than the process has cores.
            errors: for an image that cannot be read: `"raise"` its `ImageError` before the first map, or leave it out
                of the group and `"return"` the error instead of its map.

        Yields:
            `GroupMap(saliency, variance)`: float32 `(H, W)` each, at the size of the image; the variance is None for a
            single order.

        Raises:
            ValueError: if there is no image.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: errors={errors!r}")
        return self._map(list(snapshots(images, self.read)), orders, seed, jobs or cores() + 1, errors)

    def _map(self, images, orders, seed, jobs, errors):
        with self.encode(images, orders=orders, seed=seed, jobs=jobs, stop_at_errors=errors == "raise") as group:
            yield from ordered_map(group.map_or_error, range(len(images)), workers=jobs)

    @contextlib.contextmanager
    def encode(
        self,
        images: list,
        *,
        orders: int = 1,
        seed: int = 0,
        jobs: int | None = None,
        stop_at_errors: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> Iterator["EncodedGroup"]:
        """Encode the images of a group, and yield the group, whose maps can then be decoded.

        Args:
            images: as for a call.
            orders: as in `map`.
            seed: as in `map`.
            jobs: as in `map`.
            stop_at_errors: whether to raise the first error of an image; if not, errors are in the group's `errors`.
            progress: called after each image.
        """
        if not images:
            raise ValueError(f"A group needs at least one image. Received: images={images!r}")
        jobs = jobs or cores() + 1
        with GroupStream(self.engine, orders=orders, seed=seed, keep=self.keep_features) as stream:
            group = EncodedGroup(self, images, stream)
            encoded = ordered_map(functools.partial(self._encode_one, stop_at_errors), images, workers=jobs)
            with contextlib.closing(encoded):
                for index, (size, features) in enumerate(encoded):
                    if isinstance(features, Exception):
                        group.errors[index] = features
                    else:
                        group.positions[index], group.sizes[index] = stream.count, size
                        stream.add(features)
                    progress()
            stream.finish()
            yield group

    def _encode_one(self, stop_at_errors, image):
        try:
            decoded = self.read(image)
            return decoded.size, self.engine.encode(decoded.rgb)
        except (ImageError, MissingExtraError, MemoryError) as error:
            if stop_at_errors:
                raise
            return None, error

    def read(self, image, *, whole: bool = False) -> DecodedImage:
        """Read an image at the network's input size, or with `whole` at its own size."""
        return read_snapshot(image, fit=None if whole else self.engine.size, max_pixels=self.max_pixels)


class EncodedGroup:
    """A group whose images have been encoded. Its methods may be called from several threads at once.

    Attributes:
        errors: index of an image that could not be read → its error; the image is left out.
        sizes: index of any other image → its `(height, width)`.
        positions: index of any other image → its position among the images of the state.
    """

    def __init__(self, predictor, images, stream):
        self._predictor, self._images, self._stream = predictor, images, stream
        self.errors: dict[int, Exception] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        self.positions: dict[int, int] = {}

    def map(self, index: int, decoded: DecodedImage | None = None) -> GroupMap:
        """Decode the map of an image, at the size of the image.

        Args:
            index: index of the image.
            decoded: the image, if it has already been read again.

        Raises:
            ImageError: if the image cannot be read again.
        """
        features = self._stream.features(self.positions[index])
        if features is None:
            decoded = decoded or self._predictor.read(self._images[index])
            features = self._predictor.engine.encode(resize(decoded.rgb, self._predictor.engine.size))
        saliency, variance = self._stream.decode(features)
        size = self.sizes[index]
        return GroupMap(resize_map(saliency, size), None if variance is None else resize_map(variance, size))

    def map_or_error(self, index: int) -> GroupMap | Exception:
        """Decode the map of an image, or return the error of an image that could not be read."""
        return self.errors[index] if index in self.errors else self.map(index)


_lock = threading.Lock()


@functools.cache
def _default_predictor():
    return GroupPredictor()


def cosaliency(images: Iterable, *, orders: int = 1, seed: int = 0) -> list[np.ndarray]:
    """Predict maps of the objects that a group of images has in common, with the shipped preset.

    The network is loaded at the first call.

    Args:
        images: the images of the group: paths, the bytes of files, `PIL.Image.Image`s or RGB arrays.
        orders: number of orders of the images over which the group's state is averaged.
        seed: seed of the random orders.

    Returns:
        A map per image: float32 `(H, W)` in 0…1, at the size of the image after EXIF rotation.

    Raises:
        ValueError: if there is no image.
        ImageError: if an image cannot be read or is too large.

    Example:
        >>> import keras_recnet
        >>> maps = keras_recnet.cosaliency(["a.jpg", "b.jpg", "c.jpg"])
    """
    with _lock:  # only one thread loads the network
        predictor = _default_predictor()
    return predictor(images, orders=orders, seed=seed)
