"""Batches as a pure function of (seed, epoch, step): the base of the datasets in this package."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

try:
    import tensorflow as tf
except ModuleNotFoundError:
    tf = None

from keras_recnet.parallel import Shard, ordered_map
from keras_recnet.pipelines.image_source import Source

if TYPE_CHECKING:
    Dataset: TypeAlias = "tf.data.Dataset | ThreadedBatches"


class Batches:
    """Base of datasets that yield batches, starting at any (epoch, step).

    The batches are a `tf.data.Dataset` or, where TensorFlow is not installed, `ThreadedBatches`.

    A subclass defines `__len__`, `_training_batch` (returns the NumPy arrays of a step), `_dtypes` (the list of their
    types) and `_to_inputs` (converts them to what the model needs, with `tensor`).

    Args:
        source: an `ImageSource` or another `Source`.
        batch_size: pairs or groups per batch.
        seed: any integer.
        drop_remainder: whether to drop the last, smaller batch of an epoch.
        workers: threads that prepare batches and fill the cache.

    Attributes:
        shard: the part of the data that this process reads, if N processes train together; None for all. Each process
            reads an equal number of consecutive samples of every training batch (`batch_size` must be a multiple of N),
            and every N-th batch of `evaluation()`.

    Raises:
        ValueError: if an argument is out of range.
    """

    shard: Shard | None = None
    _dtypes: list[type]

    def __init__(self, source: Source, batch_size, seed, drop_remainder, workers):
        self.source = source
        self.image_size = source.image_size
        self.batch_size = batch_size
        self.seed = int(seed)
        self.drop_remainder = drop_remainder
        self.workers = workers
        if batch_size < 1 or workers < 1:
            raise ValueError(
                f"`batch_size` and `workers` must be 1 or more. Received: batch_size={batch_size}, workers={workers}"
            )

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""
        batches = len(self) / self.batch_size
        return math.floor(batches) if self.drop_remainder else math.ceil(batches)

    @property
    def local_batch_size(self) -> int:
        """Samples per training batch that this process reads."""
        return self.batch_size // (1 if self.shard is None else self.shard.count)

    def positions(self, step: int) -> range:
        """Return the positions, in the epoch, of the samples that this process reads for a training batch."""
        start = step * self.batch_size + (0 if self.shard is None else self.shard.index * self.local_batch_size)
        return range(start, min(start + self.local_batch_size, len(self)))

    def epoch(self, epoch: int, start_step: int = 0) -> "Dataset":
        """Return the batches of one epoch, starting at `start_step`.

        Args:
            epoch: number of the epoch, 0 or more.
            start_step: first step, `0…steps_per_epoch`.
        """
        return self.training(epoch + 1, epoch, start_step)

    def training(self, epochs: int, start_epoch: int = 0, start_step: int = 0) -> "Dataset":
        """Return the batches of several epochs, for `model.fit(…, steps_per_epoch=data.steps_per_epoch)`.

        Args:
            epochs: end of the epochs, exclusive, as in `fit`.
            start_epoch: first epoch.
            start_step: first step of the first epoch.
        """
        steps = self.steps_per_epoch
        if start_epoch < 0 or not 0 <= start_step <= steps:
            raise ValueError(
                f"`epoch` must be 0 or more, and `start_step` must be in 0…{steps}. "
                f"Received: epoch={start_epoch}, start_step={start_step}"
            )
        end = max(epochs, start_epoch + 1) * steps
        return self._dataset(self._training_step, start_epoch * steps + start_step, end, training=True)

    def _training_step(self, step):
        return self._training_batch(*divmod(int(step), self.steps_per_epoch))

    def _dataset(self, make_batch, first, end, *, training):
        steps = range(first, end)
        if self.shard is not None and not training:
            steps = self.shard.select(steps)
        if tf is None:
            return ThreadedBatches(
                lambda step: self._to_inputs(*make_batch(step), training=training), steps, self.workers
            )

        def load(step):
            return self._to_inputs(*tf.numpy_function(make_batch, [step], self._dtypes), training=training)

        dataset = tf.data.Dataset.range(steps.start, steps.stop, steps.step)
        dataset = dataset.map(load, num_parallel_calls=self.workers, deterministic=True).prefetch(2)
        options = tf.data.Options()
        # training needs the cores; more threads than workers would only compete for them
        options.threading.private_threadpool_size = self.workers
        options.threading.max_intra_op_parallelism = 1
        return dataset.with_options(options)


class ThreadedBatches:
    """Batches prepared by threads, in order, for use without TensorFlow.

    It has the methods of `tf.data.Dataset` that training uses. `model.fit` takes `iter(batches)`.

    Args:
        load: function that prepares the batch of a step, as a tuple of NumPy arrays.
        steps: the steps, in order.
        workers: number of threads.
    """

    def __init__(self, load: Callable[[int], tuple], steps: range, workers: int):
        self.load = load
        self.steps = steps
        self.workers = workers

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> tuple:
        return self.load(self.steps[index])

    def __iter__(self):
        return ordered_map(self.load, self.steps, workers=self.workers)

    def take(self, count: int) -> "ThreadedBatches":
        """Return the first `count` batches."""
        return ThreadedBatches(self.load, self.steps[:count], self.workers)

    def as_numpy_iterator(self):
        """Return an iterator over the batches."""
        return iter(self)


def tensor(array, shape: tuple[int | None, ...], dtype: str = "float32"):
    """Return an array of a batch with another dtype and, if it is a tensor of TensorFlow, with a static shape."""
    if isinstance(array, np.ndarray):
        return array.astype(dtype, copy=False)
    return tf.cast(tf.ensure_shape(array, shape), dtype)
