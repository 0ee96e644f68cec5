"""Batches of image-mask pairs (DUTS, or any two folders) for training and evaluation."""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_recnet.pipelines.augment import Augment
from keras_recnet.pipelines.batches import Batches, tensor
from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.image_source import ImageSource
from keras_recnet.pipelines.pair_reading import Pair
from keras_recnet.pipelines.seeding import AUGMENTATION, ORDER, generator

if TYPE_CHECKING:
    from keras_recnet.pipelines.batches import Dataset


class SaliencyPairs(Batches):
    """Image-mask pairs in batches; a batch is a pure function of (seed, epoch, step).

    The batches are a `tf.data.Dataset` or, where TensorFlow is not installed, an iterable of NumPy
    arrays, whose iterator `model.fit` accepts.

    Every epoch contains each pair once, in an order drawn from `(seed, epoch)`. The augmentation of a sample is drawn
    from `(seed, epoch, position in the epoch)`. Training can therefore resume at any step with the same batches, and
    skipped images are not decoded.

    Args:
        pairs: sequence of `Pair`, see `find_pairs`.
        image_size: side of the square images, or `(height, width)`.
        batch_size: pairs per batch.
        seed: any integer.
        augment: an `Augment`, or None; see `ImageSource`.
        cache: `"memory"` or None.
        cache_size: side of the cached squares, or `(height, width)`.
        drop_remainder: whether to drop the last, smaller batch of an epoch.
        workers: threads that prepare batches and fill the cache.
        progress: called as `progress(done, total)` while the cache is filled.

    Raises:
        PipelineDataError: naming every file that cannot be used (with the memory cache), or if the cache does not fit
            in memory.
        ValueError: if an argument is out of range.

    Batches:
        `(images, masks)`: `(batch, height, width, 3)` float32 RGB in 0…255 and `(batch, height, width, 1)` float32 in
        0…1.

    Example:
        >>> pairs = find_pairs("DUTS-TR/images", "DUTS-TR/masks", exclude="DUTS-TR/validation.txt")
        >>> data = SaliencyPairs(pairs, image_size=224, batch_size=16, seed=1, augment=Augment())
        >>> for images, masks in data.epoch(0):  # (16, 224, 224, 3) in 0…255, (16, 224, 224, 1) in 0…1
        ...     ...
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        image_size: int | tuple[int, int],
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        cache: str | None = "memory",
        cache_size: int | tuple[int, int] = 272,
        drop_remainder: bool = True,
        *,
        workers: int = 2,
        progress: Progress | None = None,
    ):
        source = ImageSource(image_size, augment, cache, cache_size, progress=progress)
        super().__init__(source, batch_size, seed, drop_remainder, workers)
        self.pairs = list(pairs)
        if not self.pairs:
            raise ValueError("`SaliencyPairs` needs at least one pair. Received: pairs=[]")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{len(self.pairs)} pairs do not fill a batch: use a smaller `batch_size` or `drop_remainder=False`. "
                f"Received: batch_size={batch_size}"
            )
        self._dtypes = [np.uint8, np.uint8]
        source.open(self.pairs, workers)
        self._plan = functools.lru_cache(maxsize=4)(self._make_plan)

    def __len__(self) -> int:
        return len(self.pairs)

    def evaluation(self) -> "Dataset":
        """Return all pairs in their order without augmentation; the last batch may be smaller.

        Each image is resized once from its file to `image_size`, as in prediction; the cache is used only if it holds
        exactly these images (`augment=None`).
        """
        return self._dataset(self._evaluation_batch, 0, math.ceil(len(self) / self.batch_size), training=False)

    def _to_inputs(self, images, masks, *, training):
        size = self.local_batch_size if training and self.drop_remainder else None
        return tensor(images, (size, *self.image_size, 3)), tensor(masks, (size, *self.image_size, 1)) / 255.0

    def _make_plan(self, epoch):
        """Draw the order of an epoch, and the augmentation of each position."""
        order = generator(self.seed, epoch, ORDER).permutation(len(self))
        return order, self.source.draw(generator(self.seed, epoch, AUGMENTATION), len(self))

    def _training_batch(self, epoch, step):
        order, draws = self._plan(epoch)
        positions = self.positions(step)
        part = slice(positions.start, positions.stop)
        return self._batch(order[part], draws[part])

    def _evaluation_batch(self, step):
        rows = range(len(self))[step * self.batch_size : (step + 1) * self.batch_size]
        return self._batch(rows, [None] * len(rows))

    def _batch(self, rows, draws):
        images = np.empty((len(rows), *self.image_size, 3), np.uint8)
        masks = np.empty((len(rows), *self.image_size, 1), np.uint8)
        for place, (row, drawn) in enumerate(zip(rows, draws, strict=True)):
            inputs, (mask,) = self.source.read(self.pairs[row], drawn)
            images[place], masks[place, ..., 0] = inputs["images"], mask
        return images, masks
