"""Groups of pictures to co-saliency maps: `cosaliency` for one group, `GroupPredictor` for many."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from keras_recnet import presets
from keras_recnet.errors import ImageError, MissingExtraError, PresetError
from keras_recnet.imaging.reading import MAX_PIXELS, Picture, read
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.inference.group_stream import GroupMap, GroupStream
from keras_recnet.inference.predictor import both_sides, which_engine
from keras_recnet.parallel import cores, ordered

DEFAULT_GROUP_PRESET = "rcau_lite0"
KEPT = 128  # pictures a group whose features wait on the disk


class GroupPredictor:
    """A network, loaded once, that turns groups of pictures into maps of what the pictures of each have in common.

    Every picture is encoded and taken into the group's state, one after another; then every picture is decoded with
    the final state. Memory is that of a few pictures, however large the group is: what the first passage has encoded of
    the first `keep_features` pictures waits in a temporary file, the others are read and encoded again.

    It may be called from several threads at once. A group of one picture works: its map is what is salient in it alone.

    Args:
        preset: name of a preset that ships, or a preset's folder, with an `RCAUNet`.
        engine: as `Predictor`'s.
        size: height and width at which the network sees a picture, one number or two; None: the preset's own. Another
            one needs the Keras engine, and a network without a spatial map in its recurrent co-attention unit.
        threads: of the LiteRT engine on one picture; cores // `threads` pictures are encoded at once.
        max_pixels: as `Predictor`'s.
        keep_features: how many pictures of a group are encoded once only; at 224×224 the edge network needs 1.5 MB of
            the disk for each, while the group is worked on.

    Attributes:
        preset: the `keras_recnet.presets.Preset`.
        engine: what runs the network; `.name`, `.size`, `.threads`.
        engine_note: why the Keras engine was taken, or None.

    Raises:
        PresetError: if there is no such preset, it is damaged, for single pictures, bound to another size, or lacks
            what the engine needs.
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
        size: int | tuple[int, int] | None = None,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
        keep_features: int = KEPT,
    ):
        self.preset = _find(preset)
        self.max_pixels, self.keep_features = max_pixels, keep_features
        size = both_sides(size)
        self.preset.check_size(size)
        name, self.engine_note = which_engine(self.preset, engine, size=size)
        if name == "keras":
            from keras_recnet.inference.group_engines import KerasGroupEngine

            self.engine = KerasGroupEngine(self.preset, size=size)
        else:
            from keras_recnet.inference.group_engines import LiteRTGroupEngine

            self.engine = LiteRTGroupEngine(self.preset.file(presets.LITERT), threads=threads)

    def __str__(self):
        height, width = self.engine.size
        return f"{self.preset.name}, {self.engine.name} {height}×{width}, {self.engine.device}"

    def __call__(self, images: Iterable, *, orders: int = 1, seed: int = 0) -> list[np.ndarray]:
        """The maps of one group.

        Args:
            images: the group's pictures: paths, the bytes of files, `PIL.Image.Image`s or arrays in RGB; see
                `keras_recnet.imaging.reading.read`.
            orders: as `map`'s.
            seed: as `map`'s.

        Returns:
            For each picture float32 `(H, W)` in 0…1, at its own size after its EXIF rotation.

        Raises:
            ValueError: if there is no picture.
            ImageError: if one cannot be read or is refused.
        """
        return [found.saliency for found in self.map(images, orders=orders, seed=seed)]

    def map(
        self, images: Iterable, *, orders: int = 1, seed: int = 0, jobs: int | None = None, errors: str = "raise"
    ) -> Iterator[GroupMap | ImageError]:
        """Maps of the pictures of one group, in their order.

        Args:
            images: as of a call. They are read twice, so an iterator is made a list first: give paths, not arrays, if
                they are many.
            orders: K. The order of the pictures matters to a recurrent unit: the group is walked through in K orders,
                the given one and K - 1 random ones, maps come from the mean of the K states, and the variance of the K
                maps is given beside.
            seed: of the random orders.
            jobs: threads; None: one more than the process has cores.
            errors: what happens for a picture that cannot be read: `"raise"` the `ImageError` before the first map, or
                leave it out of the group and `"return"` the error in the place of its map.

        Yields:
            `GroupMap(saliency, variance)`: float32 `(H, W)` each, at the picture's own size; the variance is None for a
            single order.

        Raises:
            ValueError: if there is no picture.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: errors={errors!r}")
        return self._map(list(images), orders, seed, jobs or cores() + 1, errors)

    def _map(self, images, orders, seed, jobs, errors):
        with self.group(images, orders=orders, seed=seed, jobs=jobs, stop_at_errors=errors == "raise") as group:
            yield from ordered(lambda index: _or_its_error(group, index), range(len(images)), workers=jobs)

    @contextlib.contextmanager
    def group(
        self,
        images: list,
        *,
        orders: int = 1,
        seed: int = 0,
        jobs: int | None = None,
        stop_at_errors: bool = False,
        progress: Callable[[], None] = lambda: None,
    ) -> Iterator["Group"]:
        """Goes through a group once and gives what its maps are decoded from.

        Args:
            images: as of a call.
            orders: as of `map`.
            seed: as of `map`.
            jobs: as of `map`.
            stop_at_errors: raise the first error of a picture; else they are in the group's `errors`.
            progress: called after each picture.
        """
        if not images:
            raise ValueError(f"A group needs a picture. Received: images={images!r}")
        jobs = jobs or cores() + 1
        with GroupStream(self.engine, orders=orders, seed=seed, keep=self.keep_features) as stream:
            group = Group(self, images, stream)
            encoded = ordered(functools.partial(self._encode, stop_at_errors), images, workers=jobs)
            with contextlib.closing(encoded):
                for index, (size, features) in enumerate(encoded):
                    if isinstance(features, Exception):
                        group.errors[index] = features
                    else:
                        group.places[index], group.sizes[index] = stream.count, size
                        stream.add(features)
                    progress()
            stream.finish()
            yield group

    def _encode(self, stop_at_errors, image):
        try:
            picture = self.read(image)
            return picture.size, self.engine.encode(picture.rgb)
        except (ImageError, MissingExtraError, MemoryError) as error:
            if stop_at_errors:
                raise
            return None, error

    def read(self, image, *, whole: bool = False) -> Picture:
        """Reads a picture at the network's size, or whole."""
        return read(image, fit=None if whole else self.engine.size, max_pixels=self.max_pixels)


class Group:
    """A group that was gone through once; its methods may be called from several threads.

    Attributes:
        errors: index of a picture → why it could not be read; it is left out.
        sizes: index of any other picture → its `(height, width)`.
        places: index of any other picture → its number among those that are in the state.
    """

    def __init__(self, predictor, images, stream):
        self._predictor, self._images, self._stream = predictor, images, stream
        self.errors: dict[int, Exception] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        self.places: dict[int, int] = {}

    def map(self, index: int, picture: Picture | None = None) -> GroupMap:
        """The map of a picture at its own size.

        Args:
            index: of the picture among all.
            picture: the picture, if it was read again already.

        Raises:
            ImageError: if it cannot be read again.
        """
        features = self._stream.features(self.places[index])
        if features is None:
            picture = picture or self._predictor.read(self._images[index])
            features = self._predictor.engine.encode(resize(picture.rgb, self._predictor.engine.size))
        saliency, variance = self._stream.decode(features)
        size = self.sizes[index]
        return GroupMap(resize_map(saliency, size), None if variance is None else resize_map(variance, size))


def _or_its_error(group, index):
    return group.errors[index] if index in group.errors else group.map(index)


def _find(preset):
    found = presets.find(preset)
    if found.task != presets.COSALIENCY:
        raise PresetError(
            f"{found.folder}: a network for groups is needed, an RCAUNet; for single pictures there is `keras-recnet "
            f"predict`, in Python Predictor. Received: a preset for {found.task}"
        )
    return found


_lock = threading.Lock()


@functools.cache
def _default_predictor():
    return GroupPredictor()


def cosaliency(images: Iterable, *, orders: int = 1, seed: int = 0) -> list[np.ndarray]:
    """Maps of what a group of pictures has in common, by the preset that ships, which is loaded once and kept.

    Args:
        images: the group's pictures: paths, the bytes of files, `PIL.Image.Image`s or arrays in RGB.
        orders: over how many orders of the pictures the group's state is averaged.
        seed: of the random orders.

    Returns:
        For each picture float32 `(H, W)` in 0…1, at its own size after its EXIF rotation.

    Raises:
        ValueError: if there is no picture.
        ImageError: if one cannot be read or is refused.

    Example:
        >>> import keras_recnet
        >>> maps = keras_recnet.cosaliency(["a.jpg", "b.jpg", "c.jpg"])
    """
    with _lock:  # only one thread loads the network
        predictor = _default_predictor()
    return predictor(images, orders=orders, seed=seed)
