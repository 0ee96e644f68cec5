"""Sources of datasets: read, cache, resize and augment one pair of image and mask at a time."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines.augment import Augment, split
from keras_recnet.pipelines.cache import fill_cache
from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.composites import CompositePair
from keras_recnet.pipelines.pair_reading import Pair, read_pair

CACHES = ("memory", None)


class Source(Protocol):
    """Interface of the sources that `SaliencyGroups` reads, such as `ImageSource`.

    A dataset calls `open` once with all pairs that it may read, then `draw` and `read` for every batch. A pair has one
    mask, a composite one for each of its two objects.

    Attributes:
        image_size: `(height, width)` of the masks.
        inputs: name → `(shape, NumPy dtype)` of the arrays that `read` returns.
    """

    image_size: tuple[int, int]
    inputs: dict[str, tuple[tuple[int, ...], type]]

    def open(self, pairs: Sequence[Pair | CompositePair], workers: int) -> None:
        """Prepare to read these pairs."""

    def draw(self, random: np.random.Generator, count: int) -> Sequence:
        """Draw the augmentation of `count` pairs."""

    def read(self, pair: Pair | CompositePair, draws=None) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Return the inputs and the masks of a pair, augmented by `draws` (an element of `draw`'s result) if given."""

    def close(self) -> None:
        """Free the memory of cached images; later reads decode the files."""


class ImageSource:
    """Source of images and masks, resized and augmented.

    Each image is resized with Pillow's antialiased bilinear filter. With `cache="memory"` all pairs are decoded once to
    `cache_size` (or to `image_size` without augmentation), and crops are taken from the cached images. Composites are
    not cached, but combined from the files of their two pairs each time.

    Args:
        image_size: side of the square images, or `(height, width)`.
        augment: an `Augment`, drawn again for each image, or None for no augmentation.
        cache: `"memory"`, or None to decode the files each time.
        cache_size: side of the cached squares, or `(height, width)`; slightly larger than `image_size`, because crops
            are taken from them.
        progress: called as `progress(done, total)` while the cache is filled.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        augment: Augment | None = None,
        cache: str | None = "memory",
        cache_size: int | tuple[int, int] = 272,
        *,
        progress: Progress | None = None,
    ):
        self.image_size = _height_and_width("image_size", image_size)
        self.augment = augment
        self.cache = cache
        self.cache_size = _height_and_width("cache_size", cache_size)
        self.progress = progress
        self.inputs: dict[str, tuple[tuple[int, ...], type]] = {"images": ((*self.image_size, 3), np.uint8)}
        self._rows = {}
        self._cached = None
        if cache not in CACHES:
            raise ValueError(f"`cache` must be one of {CACHES}. Received: cache={cache!r}")
        if augment is not None and not isinstance(augment, Augment):
            raise ValueError(f"`augment` must be an `Augment` or None. Received: augment={augment!r}")

    def open(self, pairs: Sequence[Pair | CompositePair], workers: int) -> None:
        """Fill the cache with `pairs`: all pairs that will be read, each once.

        Raises:
            PipelineDataError: naming every file that cannot be used, or if the cache does not fit in memory.
        """
        if self.cache == "memory":
            size = self.image_size if self.augment is None else self.cache_size
            pairs = [pair for pair in pairs if isinstance(pair, Pair)]
            self._rows = {pair: row for row, pair in enumerate(pairs)}
            self._cached = fill_cache(pairs, size, workers=workers, progress=self.progress)

    def draw(self, random: np.random.Generator, count: int) -> Sequence:
        """Return what `read` needs to augment `count` images: random numbers, or None without augmentation."""
        return [None] * count if self.augment is None else random.random((count, Augment.DRAWS))

    def read(
        self, pair: Pair | CompositePair, draws: Sequence[float] | None = None
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Read one pair or composite at `image_size`.

        Args:
            pair: one of those given to `open`.
            draws: an element of `draw`'s result, or None to resize the pair once from its files, as prediction does.

        Returns:
            `({"images": image}, masks)`: `(height, width, 3)` uint8, and `(height, width)` uint8 for each object.

        Raises:
            PipelineDataError: if a file cannot be used.
        """
        # the cached images are larger than `image_size` if they are to be augmented
        if isinstance(pair, CompositePair):
            planes = list(pair.read(max(self.image_size)))
        elif self._cached is not None and (self.augment is None or draws is not None):
            planes = [self._cached[self._rows[pair]]]
        else:
            smallest_crop = 1.0 if draws is None else self.augment.min_crop
            planes = read_pair(pair, math.ceil(2 * max(self.image_size) / smallest_crop))
        if draws is None:
            image, *masks = split([resize(plane, self.image_size) for plane in planes])
        else:
            image, *masks = self.augment(planes, self.image_size, draws)
        return {"images": image}, masks

    def close(self) -> None:
        """Free the memory of the cache; later reads decode the files.

        TensorFlow keeps functions of a `tf.data` dataset for the life of the process, and with them this source.
        """
        self._cached = None


def _height_and_width(name, size):
    sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`{name}` must be a positive integer or (height, width). Received: {name}={size!r}")
    return int(sides[0]), int(sides[1])
