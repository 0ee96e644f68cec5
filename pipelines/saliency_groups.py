"""Groups of images -> padded batches of several groups, with distractors among them."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_recnet.pipelines.augment import Augment
from keras_recnet.pipelines.batches import AUGMENTATION, MEMBERS, ORDER, Batches, generator
from keras_recnet.pipelines.cache import fill_cache
from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.distractors import Distractors
from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pairs import Pair


class SaliencyGroups(Batches):
    """Groups as `tf.data` batches; the batch at (seed, epoch, step) is a pure function of these three.

    Every epoch shows each group once, in an order drawn from `(seed, epoch)`. What it shows of a group is drawn from
    `(seed, epoch, position in the epoch)`: how many distractors, which of the group's own, which distractors, the
    order of all, and their augmentation. A group shows `images_per_group` images; one that has fewer shows all it
    has, and the places left are padding. So a training can start again at any step and sees what it would have seen,
    and nothing that is skipped is decoded.

    Distractors ("noise") take places of the group's own and have empty masks: what they show is nothing that the
    group has in common. They are always fewer than the group's own images, since otherwise nobody could tell which is
    which: a small group gets fewer than it should, and a group of one none.

    Args:
        groups: sequence of `Group`, see `find_groups` and `read_groups`. Distractors that the groups themselves
            name are shown by `evaluation()` alone. Single images join in by `single_images`.
        image_size: side of the square pictures, or `(height, width)`.
        batch_size: groups a batch.
        images_per_group: most images of a group in a batch, N (5: the RCAU paper's).
        seed: any integer.
        augment: an `Augment`, drawn anew for each image, or None for unchanged pictures.
        cache: `"memory"`, or None to decode the files anew each time. An image of several groups is cached once.
        cache_size: side of the cached squares, or `(height, width)`; a little above `image_size`, since crops are cut
            from them.
        drop_remainder: whether an epoch leaves out the last, smaller batch.
        distractors: distractors a group: a number, a range `(least, most)` of which each group draws its own, or a
            share of its images (a float). Below half of `images_per_group`.
        distractor_pool: pairs to take distractors from (their masks are not looked at and may be None). None: images
            of the groups of another category. In both cases no image of the group's category is taken.
        workers: threads that prepare batches and fill the cache.
        progress: called as `progress(done, total)` while the cache is filled.

    Raises:
        PipelineDataError: naming every file that cannot be used (with the memory cache), or when the cache does not
            fit in memory.
        ValueError: if an argument is out of range, or there is nothing to take distractors from.

    Batches:
        `({"images": images, "mask": mask}, targets)`, as `fit` takes them for a model of two inputs: images
        `(batch, N, height, width, 3)` float32 RGB in 0…255, 0 where padded; mask `(batch, N)` bool, False where padded,
        which is behind all images; targets `(batch, N, height, width, 1)` float32 in 0…1, 0 for distractors and padding

    Example:
        >>> groups = read_groups("DUTS-TR/groups.csv", "DUTS-TR/images", "DUTS-TR/masks", split="train")
        >>> data = SaliencyGroups(groups, image_size=224, batch_size=4, images_per_group=8, distractors=(0, 3))
        >>> for inputs, targets in data.epoch(0):  # (4, 8, 224, 224, 3), (4, 8); (4, 8, 224, 224, 1)
        ...     ...
    """

    DTYPES = (tf.uint8, tf.bool, tf.uint8)

    def __init__(
        self,
        groups: Sequence[Group],
        image_size: int | tuple[int, int],
        batch_size: int,
        images_per_group: int = 5,
        seed: int = 0,
        augment: Augment | None = None,
        cache: str | None = "memory",
        cache_size: int | tuple[int, int] = 272,
        drop_remainder: bool = True,
        *,
        distractors: int | float | tuple[int, int] = 0,
        distractor_pool: Sequence[Pair] | None = None,
        workers: int = 2,
        progress: Progress | None = None,
    ):
        super().__init__(image_size, batch_size, seed, augment, cache, cache_size, drop_remainder, workers)
        self.groups = list(groups)
        self.images_per_group = images_per_group
        if not self.groups:
            raise ValueError("`SaliencyGroups` needs at least one group. Received: groups=[]")
        if images_per_group < 1:
            raise ValueError(f"`images_per_group` must be 1 or more. Received: images_per_group={images_per_group}")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{len(self.groups)} groups do not fill a batch: take a smaller `batch_size` or "
                f"`drop_remainder=False`. Received: batch_size={batch_size}"
            )
        self._distractors = Distractors(self.groups, distractor_pool, distractors, images_per_group)
        pairs = [pair for group in self.groups for pair in group.pairs] + self._distractors.pairs
        # One row for each image and mask, however many groups show them.
        self._rows = {pair: row for row, pair in enumerate(dict.fromkeys(pairs))}
        self._array = None
        if cache == "memory":
            size = self.image_size if augment is None else self.cache_size
            self._array = fill_cache(list(self._rows), size, workers=workers, progress=progress)
        self._order = functools.lru_cache(maxsize=4)(self._make_order)

    def __len__(self) -> int:
        return len(self.groups)

    def members(self, epoch: int, position: int) -> tuple[Group, list[Pair], list[bool]]:
        """What an epoch shows at a position: step `position // batch_size`, place `position % batch_size` of a batch.

        Args:
            epoch: number of the epoch, 0 or more.
            position: 0 up to the number of groups.

        Returns:
            `(group, pairs, distractors)`: the images in their order, and one flag for each.
        """
        group = self.groups[self._order(epoch)[position]]
        random = generator(self.seed, epoch, MEMBERS, position)
        own = group.own
        count, strangers = self._distractors.draw(random, group)
        own = [own[i] for i in random.permutation(len(own))[: self.images_per_group - count]]
        shown = [*((pair, False) for pair in own), *((pair, True) for pair in strangers)]
        pairs, distractors = zip(*(shown[i] for i in random.permutation(len(shown))), strict=True)
        return group, list(pairs), list(distractors)

    def evaluation(self, images_per_group: int | None = None) -> tf.data.Dataset:
        """All groups in their order with all their images in their order, unaugmented, the distractors they name too.

        A batch is padded to its largest group. Each picture is resized once, from its file to `image_size`, as
        prediction does: the cache is read only when it holds exactly these pictures (`augment=None`).

        Args:
            images_per_group: cuts groups that are larger into parts of at most so many images, as equal as they can
                be, and pads every batch to this number; None shows groups whole.

        Returns:
            A `tf.data.Dataset` as `epoch` gives, the last batch as large as what is left.
        """
        if images_per_group is not None and images_per_group < 1:
            raise ValueError(
                f"`images_per_group` must be 1 or more, or None. Received: images_per_group={images_per_group}"
            )
        parts = []
        for group in self.groups:
            shown = list(zip(group.pairs, group.distractors, strict=True))
            cuts = math.ceil(len(shown) / (images_per_group or len(shown)))
            parts += [[shown[i] for i in part] for part in np.array_split(np.arange(len(shown)), cuts)]
        array = self._array if self.augment is None else None

        def batch(step):
            chosen = parts[step * self.batch_size : (step + 1) * self.batch_size]
            return self._batch(chosen, None, array, images_per_group or max(map(len, chosen)))

        return self._dataset(batch, 0, math.ceil(len(parts) / self.batch_size), training=False)

    def _to_tensors(self, images, mask, targets, *, training):
        size = self.batch_size if training and self.drop_remainder else None
        length = self.images_per_group if training else None
        images = tf.ensure_shape(images, (size, length, *self.image_size, 3))
        mask = tf.ensure_shape(mask, (size, length))
        targets = tf.ensure_shape(targets, (size, length, *self.image_size, 1))
        return {"images": tf.cast(images, tf.float32), "mask": mask}, tf.cast(targets, tf.float32) / 255.0

    def _make_order(self, epoch):
        return generator(self.seed, epoch, ORDER).permutation(len(self.groups))

    def _training_batch(self, epoch, step):
        positions = range(step * self.batch_size, min((step + 1) * self.batch_size, len(self.groups)))
        parts, draws = [], []
        for position in positions:
            _, pairs, distractors = self.members(epoch, position)
            parts.append(list(zip(pairs, distractors, strict=True)))
            draws.append(self._draws(generator(self.seed, epoch, AUGMENTATION, position)))
        return self._batch(parts, draws, self._array, self.images_per_group)

    def _draws(self, random):
        """What changes each of a group's places: random numbers for `Augment`, or None."""
        if self.augment is None:
            return [None] * self.images_per_group
        return random.random((self.images_per_group, Augment.DRAWS))

    def _batch(self, parts, draws, array, length):
        images = np.zeros((len(parts), length, *self.image_size, 3), np.uint8)
        mask = np.zeros((len(parts), length), bool)
        targets = np.zeros((len(parts), length, *self.image_size, 1), np.uint8)
        for i, part in enumerate(parts):
            for n, (pair, distractors) in enumerate(part):
                cached = None if array is None else array[self._rows[pair]]
                image, target = self._picture(pair, cached, None if draws is None else draws[i][n])
                images[i, n], mask[i, n] = image, True
                if not distractors:
                    targets[i, n, ..., 0] = target
        return images, mask, targets
