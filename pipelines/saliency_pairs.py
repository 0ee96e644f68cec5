"""Pairs of photograph and saliency mask (DUTS, or any folder pair) -> batches for training and evaluation."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_recnet.pipelines.augment import Augment
from keras_recnet.pipelines.batches import AUGMENTATION, ORDER, Batches, generator
from keras_recnet.pipelines.cache import fill_cache
from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.pairs import Pair


class SaliencyPairs(Batches):
    """Image-mask pairs as `tf.data` batches; the batch at (seed, epoch, step) is a pure function of these three.

    Every epoch shows each pair once, in an order drawn from `(seed, epoch)`. The augmentation of a sample is drawn from
    `(seed, epoch, position in the epoch)`. So a training can start again at any step and sees what it would have
    seen, and nothing that is skipped is decoded.

    Each picture is resized by one rule, Pillow's antialiased bilinear. With `cache="memory"` all pairs are decoded
    once, at construction, to `cache_size`² (or to `image_size` when nothing is augmented), and crops are cut from that.

    Args:
        pairs: sequence of `Pair`, see `find_pairs`.
        image_size: side of the square batches, or `(height, width)`.
        batch_size: pairs a batch.
        seed: any integer.
        augment: an `Augment`, or None for unchanged pictures.
        cache: `"memory"`, or None to decode the files anew each time.
        cache_size: side of the cached squares, or `(height, width)`; a little above `image_size`, since crops are cut
            from them.
        drop_remainder: whether an epoch leaves out the last, smaller batch.
        workers: threads that prepare batches and fill the cache.
        progress: called as `progress(done, total)` while the cache is filled.

    Raises:
        PipelineDataError: naming every file that cannot be used (with the memory cache), or when the cache does not
            fit in memory.
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

    DTYPES = (tf.uint8, tf.uint8)

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
        super().__init__(image_size, batch_size, seed, augment, cache, cache_size, drop_remainder, workers)
        self.pairs = list(pairs)
        if not self.pairs:
            raise ValueError("`SaliencyPairs` needs at least one pair. Received: pairs=[]")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{len(self.pairs)} pairs do not fill a batch: take a smaller `batch_size` or `drop_remainder=False`. "
                f"Received: batch_size={batch_size}"
            )
        self._array = None
        if cache == "memory":
            size = self.image_size if augment is None else self.cache_size
            self._array = fill_cache(self.pairs, size, workers=workers, progress=progress)
        self._plan = functools.lru_cache(maxsize=4)(self._make_plan)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def names(self) -> list[str]:
        """The names of the pairs, in the order of `evaluation()`."""
        return [pair.name for pair in self.pairs]

    def evaluation(self) -> tf.data.Dataset:
        """All pairs in their order, unaugmented, the last batch as large as what is left.

        Each picture is resized once, from its file to `image_size`, as prediction does: the cache is read only when
        it holds exactly these pictures (`augment=None`).

        Returns:
            A `tf.data.Dataset` as `epoch` gives.
        """
        steps = math.ceil(len(self.pairs) / self.batch_size)
        return self._dataset(self._evaluation_batch, 0, steps, training=False)

    def _to_tensors(self, images, masks, *, training):
        size = self.batch_size if training and self.drop_remainder else None
        images = tf.ensure_shape(images, (size, *self.image_size, 3))
        masks = tf.ensure_shape(masks, (size, *self.image_size, 1))
        return tf.cast(images, tf.float32), tf.cast(masks, tf.float32) / 255.0

    def _make_plan(self, epoch):
        """Order of an epoch, and the random numbers of each position in it."""
        order = generator(self.seed, epoch, ORDER).permutation(len(self.pairs))
        draws = generator(self.seed, epoch, AUGMENTATION).random((len(self.pairs), Augment.DRAWS))
        return order, draws

    def _training_batch(self, epoch, step):
        order, draws = self._plan(epoch)
        positions = slice(step * self.batch_size, (step + 1) * self.batch_size)
        return self._batch(order[positions], draws[positions] if self.augment is not None else None, self._array)

    def _evaluation_batch(self, step):
        first = int(step) * self.batch_size
        rows = range(first, min(first + self.batch_size, len(self.pairs)))
        return self._batch(rows, None, self._array if self.augment is None else None)

    def _batch(self, rows, draws, array):
        images = np.empty((len(rows), *self.image_size, 3), np.uint8)
        masks = np.empty((len(rows), *self.image_size, 1), np.uint8)
        for place, row in enumerate(rows):
            cached = None if array is None else array[row]
            images[place], masks[place, ..., 0] = self._picture(
                self.pairs[row], cached, None if draws is None else draws[place]
            )
        return images, masks
