"""Pairs of photograph and saliency mask (DUTS, or any folder pair) -> batches for training and evaluation."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_recnet.pipelines.augment import Augment, split
from keras_recnet.pipelines.cache import fill_cache
from keras_recnet.pipelines.checking import Progress
from keras_recnet.pipelines.pairs import Pair
from keras_recnet.pipelines.reading import read_pair
from keras_recnet.pipelines.resizing import resize

CACHES = ("memory", None)
# Keys that keep the random numbers of the order and of the augmentation apart.
ORDER, AUGMENTATION = 0, 1


class SaliencyPairs:
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
        self.pairs = list(pairs)
        self.image_size = _two_sides("image_size", image_size)
        self.batch_size = batch_size
        self.seed = int(seed)
        self.augment = augment
        self.cache = cache
        self.cache_size = _two_sides("cache_size", cache_size)
        self.drop_remainder = drop_remainder
        self.workers = workers
        if not self.pairs:
            raise ValueError("`SaliencyPairs` needs at least one pair. Received: pairs=[]")
        if cache not in CACHES:
            raise ValueError(f"`cache` must be one of {CACHES}. Received: cache={cache!r}")
        if batch_size < 1 or workers < 1:
            raise ValueError(
                f"`batch_size` and `workers` must be 1 or more. Received: batch_size={batch_size}, workers={workers}"
            )
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{len(self.pairs)} pairs do not fill a batch: take a smaller `batch_size` or `drop_remainder=False`. "
                f"Received: batch_size={batch_size}"
            )
        if augment is not None and not isinstance(augment, Augment):
            raise ValueError(f"`augment` must be an `Augment` or None. Received: augment={augment!r}")
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

    @property
    def steps_per_epoch(self) -> int:
        whole = len(self.pairs) / self.batch_size
        return math.floor(whole) if self.drop_remainder else math.ceil(whole)

    def epoch(self, epoch: int, start_step: int = 0) -> tf.data.Dataset:
        """The batches of one epoch, from `start_step` on.

        Args:
            epoch: number of the epoch, 0 or more.
            start_step: first step, `0…steps_per_epoch`.

        Returns:
            A `tf.data.Dataset` of `(images, masks)`: `(batch, height, width, 3)` float32 RGB in 0…255 and
            `(batch, height, width, 1)` float32 in 0…1.
        """
        if epoch < 0 or not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"`epoch` must be 0 or more and `start_step` lie in 0…{self.steps_per_epoch}. "
                f"Received: epoch={epoch}, start_step={start_step}"
            )
        first = epoch * self.steps_per_epoch
        return self._dataset(self._training_batch, first + start_step, first + self.steps_per_epoch)

    def training(self, epochs: int, start_epoch: int = 0, start_step: int = 0) -> tf.data.Dataset:
        """The batches of several epochs in one dataset, for `model.fit(…, steps_per_epoch=data.steps_per_epoch)`.

        Args:
            epochs: number of the epoch to end before.
            start_epoch: first epoch.
            start_step: first step in it.

        Returns:
            A `tf.data.Dataset` as `epoch` gives.
        """
        rest = self.epoch(start_epoch, start_step)
        if epochs > start_epoch + 1:
            steps = self.steps_per_epoch
            rest = self._dataset(self._training_batch, start_epoch * steps + start_step, epochs * steps)
        return rest

    def evaluation(self) -> tf.data.Dataset:
        """All pairs in their order, unaugmented, the last batch as large as what is left.

        Each picture is resized once, from its file to `image_size`, as prediction does: the cache is read only when
        it holds exactly these pictures (`augment=None`).

        Returns:
            A `tf.data.Dataset` as `epoch` gives.
        """
        return self._dataset(self._evaluation_batch, 0, math.ceil(len(self.pairs) / self.batch_size))

    def _dataset(self, make_batch, first, end):
        height, width = self.image_size
        size = self.batch_size if make_batch == self._training_batch and self.drop_remainder else None

        def to_tensors(step):
            images, masks = tf.numpy_function(make_batch, [step], (tf.uint8, tf.uint8))
            images = tf.ensure_shape(images, (size, height, width, 3))
            masks = tf.ensure_shape(masks, (size, height, width, 1))
            return tf.cast(images, tf.float32), tf.cast(masks, tf.float32) / 255.0

        dataset = tf.data.Dataset.range(first, end)
        dataset = dataset.map(to_tensors, num_parallel_calls=self.workers, deterministic=True).prefetch(2)
        options = tf.data.Options()
        # The training wants the cores; more threads than workers would only take turns.
        options.threading.private_threadpool_size = self.workers
        options.threading.max_intra_op_parallelism = 1
        return dataset.with_options(options)

    def _make_plan(self, epoch):
        """Order of an epoch, and the random numbers of each position in it."""
        order = _generator(self.seed, epoch, ORDER).permutation(len(self.pairs))
        draws = _generator(self.seed, epoch, AUGMENTATION).random((len(self.pairs), Augment.DRAWS))
        return order, draws

    def _training_batch(self, step):
        epoch, step = divmod(int(step), self.steps_per_epoch)
        order, draws = self._plan(epoch)
        positions = slice(step * self.batch_size, (step + 1) * self.batch_size)
        return self._batch(order[positions], draws[positions] if self.augment is not None else None, self._array)

    def _evaluation_batch(self, step):
        first = int(step) * self.batch_size
        rows = range(first, min(first + self.batch_size, len(self.pairs)))
        return self._batch(rows, None, self._array if self.augment is None else None)

    def _batch(self, rows, draws, array):
        kept = 1.0 if draws is None else self.augment.min_crop
        at_least = math.ceil(2 * max(self.image_size) / kept)
        images = np.empty((len(rows), *self.image_size, 3), np.uint8)
        masks = np.empty((len(rows), *self.image_size, 1), np.uint8)
        for place, row in enumerate(rows):
            planes = [array[row]] if array is not None else read_pair(self.pairs[row], at_least)
            if draws is not None:
                image, mask = self.augment(planes, self.image_size, draws[place])
            else:
                image, mask = split([resize(plane, self.image_size) for plane in planes])
            images[place], masks[place, ..., 0] = image, mask
        return images, masks


def _two_sides(name, size):
    sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`{name}` must be a positive integer or (height, width). Received: {name}={size!r}")
    return int(sides[0]), int(sides[1])


def _generator(seed, epoch, purpose):
    # NumPy takes seeds from 0 on; this keeps negative ones apart from them.
    seed = 2 * seed if seed >= 0 else -2 * seed - 1
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch, purpose))))
