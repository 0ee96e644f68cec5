"""Batches as a pure function of (seed, epoch, step): what the data sets of this package share."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines.augment import Augment, split
from keras_recnet.pipelines.pair_reading import read_pair
from keras_recnet.pipelines.pairs import Pair

CACHES = ("memory", None)
# Keys that keep the random numbers of the order, the augmentation and the members of groups apart.
ORDER, AUGMENTATION, MEMBERS = 0, 1, 2


class Batches:
    """Base of data sets that give `tf.data` batches from any (epoch, step) on.

    A subclass has `steps_per_epoch`, makes the batch of a step with `_training_batch` as arrays of the types `DTYPES`,
    and makes tensors of known shapes of them in `_to_tensors`.

    Args:
        image_size: side of the pictures, or `(height, width)`.
        batch_size: pairs, or groups, a batch.
        seed: any integer.
        augment: an `Augment`, or None for unchanged pictures.
        cache: `"memory"`, or None to decode the files anew each time.
        cache_size: side of the cached pictures, or `(height, width)`.
        drop_remainder: whether an epoch leaves out the last, smaller batch.
        workers: threads that prepare batches and fill the cache.

    Raises:
        ValueError: if an argument is out of range.
    """

    DTYPES: tuple[tf.DType, ...]

    def __init__(self, image_size, batch_size, seed, augment, cache, cache_size, drop_remainder, workers):
        self.image_size = two_sides("image_size", image_size)
        self.batch_size = batch_size
        self.seed = int(seed)
        self.augment = augment
        self.cache = cache
        self.cache_size = two_sides("cache_size", cache_size)
        self.drop_remainder = drop_remainder
        self.workers = workers
        if cache not in CACHES:
            raise ValueError(f"`cache` must be one of {CACHES}. Received: cache={cache!r}")
        if batch_size < 1 or workers < 1:
            raise ValueError(
                f"`batch_size` and `workers` must be 1 or more. Received: batch_size={batch_size}, workers={workers}"
            )
        if augment is not None and not isinstance(augment, Augment):
            raise ValueError(f"`augment` must be an `Augment` or None. Received: augment={augment!r}")

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        whole = len(self) / self.batch_size
        return math.floor(whole) if self.drop_remainder else math.ceil(whole)

    def epoch(self, epoch: int, start_step: int = 0) -> tf.data.Dataset:
        """The batches of one epoch, from `start_step` on.

        Args:
            epoch: number of the epoch, 0 or more.
            start_step: first step, `0…steps_per_epoch`.

        Returns:
            A `tf.data.Dataset` of batches as the class describes them.
        """
        if epoch < 0 or not 0 <= start_step <= self.steps_per_epoch:
            raise ValueError(
                f"`epoch` must be 0 or more and `start_step` lie in 0…{self.steps_per_epoch}. "
                f"Received: epoch={epoch}, start_step={start_step}"
            )
        first = epoch * self.steps_per_epoch
        return self._dataset(self._training_step, first + start_step, first + self.steps_per_epoch, training=True)

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
            rest = self._dataset(self._training_step, start_epoch * steps + start_step, epochs * steps, training=True)
        return rest

    def _training_step(self, step):
        return self._training_batch(*divmod(int(step), self.steps_per_epoch))

    def _training_batch(self, epoch, step):
        raise NotImplementedError

    def _to_tensors(self, *arrays, training):
        raise NotImplementedError

    def _dataset(self, make_batch, first, end, *, training):
        def load(step):
            return self._to_tensors(*tf.numpy_function(make_batch, [step], self.DTYPES), training=training)

        dataset = tf.data.Dataset.range(first, end)
        dataset = dataset.map(load, num_parallel_calls=self.workers, deterministic=True).prefetch(2)
        options = tf.data.Options()
        # The training wants the cores; more threads than workers would only take turns.
        options.threading.private_threadpool_size = self.workers
        options.threading.max_intra_op_parallelism = 1
        return dataset.with_options(options)

    def _picture(
        self, pair: Pair, cached: np.ndarray | None, draws: Sequence[float] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask of a pair at `image_size`, augmented where random numbers are given."""
        kept = 1.0 if draws is None else self.augment.min_crop
        planes = [cached] if cached is not None else read_pair(pair, math.ceil(2 * max(self.image_size) / kept))
        if draws is not None:
            return self.augment(planes, self.image_size, draws)
        return split([resize(plane, self.image_size) for plane in planes])


def two_sides(name, size):
    """`(height, width)` of a side or of the two."""
    sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`{name}` must be a positive integer or (height, width). Received: {name}={size!r}")
    return int(sides[0]), int(sides[1])


def generator(seed: int, *key: int) -> np.random.Generator:
    """Random numbers that belong to a seed and to a key of numbers from 0 on, such as epoch and purpose."""
    # NumPy takes seeds from 0 on; this keeps negative ones apart from them.
    seed = 2 * seed if seed >= 0 else -2 * seed - 1
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
