"""Padded batches of image groups, with distractors, for co-saliency."""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_recnet.pipelines.batches import Batches, tensor
from keras_recnet.pipelines.composites import CompositePair
from keras_recnet.pipelines.distractors import DistractorSampler
from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.image_source import Source
from keras_recnet.pipelines.pair_reading import Pair
from keras_recnet.pipelines.seeding import AUGMENTATION, MEMBERS, ORDER, generator

if TYPE_CHECKING:
    from keras_recnet.pipelines.batches import Dataset


class SaliencyGroups(Batches):
    """Groups in batches; a batch is a pure function of (seed, epoch, step).

    The batches are a `tf.data.Dataset` or, where TensorFlow is not installed, an iterable of NumPy
    arrays, whose iterator `model.fit` accepts.

    Every epoch contains each group once, in an order drawn from `(seed, epoch)`. For each group,
    `(seed, epoch, position in the epoch)` determines the number of distractors, the choice of the group's images and of
    distractors, the order of all images, and their augmentation. A group has `images_per_group` places; a smaller group
    uses all of its images, and the remaining places are padding. Training can therefore resume at any step with the
    same batches, and skipped images are not decoded.

    Distractors ("noise") replace images of the group and have empty masks, because they do not show what the group has
    in common. They are always fewer than the group's own images, since otherwise the common object would be ambiguous:
    a small group gets fewer than requested, and a group of one image gets none.

    With `category_share`, each position of an epoch draws its group instead: with this probability a whole category
    (all images of its groups), otherwise a single group, both with a probability proportional to the square root of
    the number of images. A network that sees only groups of one species would learn that other birds are distractors.

    A composite combines two images. In a group of either image, it counts as an image of the group, and its mask shows
    the object of this group only; in the other groups, it is a distractor.

    Args:
        groups: sequence of `Group`, see `find_groups` and `read_groups`. Distractors listed in the groups themselves
            are used by `evaluation()` only. To add single images, see `single_images`.
        source: reads the images, such as `ImageSource(224)`, or features computed from them. One source per dataset.
        batch_size: groups per batch.
        images_per_group: maximum number N of images per group in a batch; 5 as in the RCAU paper.
        seed: any integer.
        drop_remainder: whether to drop the last, smaller batch of an epoch.
        distractors: distractors per group: a number, a range `(least, most)` from which each group draws a number, or a
            share of its images (a float). Less than half of `images_per_group`.
        distractor_pool: pairs to draw distractors from; their masks are ignored and may be None. By default, the images
            of all groups, except those with `several_objects`. Images of the group's own category are never drawn.
        category_share: share of the groups that are whole categories, 0…1; 0 uses each group once per epoch.
        small_group_share: share of the groups that use only a random number of their images, 2 or more, so that the
            network also learns from small groups.
        composites: composites of images of the groups, see `plan_composites`.
        composite_share: share of the group's images and of the distractors that are composites, below 1. Groups with
            too few images are filled with more composites.
        group_numbers: whether training batches have two more inputs, for a loss inside the model: the number of the
            group, `"group"`, `(batch,)` int32, in the order of `group_names`; and the targets, `"objects"`.
        workers: threads that prepare batches and fill the cache.

    Attributes:
        group_names: the sorted names of all groups and, with `category_share`, of all categories. Groups of the same
            name have the same number.
        distractor_sampler: the `DistractorSampler`.

    Raises:
        PipelineDataError: naming every file that cannot be used (if the source reads all of them in advance), or if the
            cache does not fit in memory.
        ValueError: if an argument is out of range, or there are no images to draw distractors from.

    Batches:
        `({"images": images, "mask": mask}, targets)`, the input of a group model in `fit`: images
        `(batch, N, height, width, 3)` float32 RGB in 0…255, 0 where padded; mask `(batch, N)` bool, True for images and
        False for padding, which follows the images; targets `(batch, N, height, width, 1)` float32 in 0…1, 0 for
        distractors and padding. A source of features has its own arrays instead of `images`.

    Example:
        >>> groups = read_groups("DUTS-TR/groups.csv", "DUTS-TR/images", "DUTS-TR/masks", split="train")
        >>> data = SaliencyGroups(groups, ImageSource(224), batch_size=4, images_per_group=8, distractors=(0, 3))
        >>> for inputs, targets in data.epoch(0):  # (4, 8, 224, 224, 3), (4, 8); (4, 8, 224, 224, 1)
        ...     ...
    """

    def __init__(
        self,
        groups: Sequence[Group],
        source: Source,
        batch_size: int,
        images_per_group: int = 5,
        seed: int = 0,
        drop_remainder: bool = True,
        *,
        distractors: int | float | tuple[int, int] = 0,
        distractor_pool: Sequence[Pair] | None = None,
        category_share: float = 0.0,
        small_group_share: float = 0.0,
        composites: Sequence[CompositePair] = (),
        composite_share: float = 0.5,
        group_numbers: bool = False,
        workers: int = 2,
    ):
        super().__init__(source, batch_size, seed, drop_remainder, workers)
        self.groups = list(groups)
        self.images_per_group = images_per_group
        if not self.groups:
            raise ValueError("`SaliencyGroups` needs at least one group. Received: groups=[]")
        if images_per_group < 1:
            raise ValueError(f"`images_per_group` must be 1 or more. Received: images_per_group={images_per_group}")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{len(self.groups)} groups do not fill a batch: use a smaller `batch_size` or "
                f"`drop_remainder=False`. Received: batch_size={batch_size}"
            )
        for name, share in (("category_share", category_share), ("small_group_share", small_group_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be in 0…1. Received: {name}={share!r}")
        if not 0 <= composite_share < 1:
            raise ValueError(f"`composite_share` must be 0 or more and below 1. Received: {composite_share!r}")
        self.category_share = category_share
        self.small_group_share = small_group_share
        self.composite_share = composite_share
        self.distractor_sampler = DistractorSampler(
            self.groups, distractor_pool, distractors, images_per_group, composites, composite_share
        )
        self._own_composites = _by_pair(composites)
        self._categories = _categories(self.groups) if category_share else []
        self._probabilities = [_root_shares(groups) for groups in (self.groups, self._categories)]
        self.group_names = sorted({group.name for group in [*self.groups, *self._categories]})
        self._numbers = {name: number for number, name in enumerate(self.group_names)} if group_numbers else None
        self._dtypes = [*(dtype for _, dtype in source.inputs.values()), np.bool_, np.uint8, np.int32]
        pairs = [pair for group in self.groups for pair in group.pairs] + self.distractor_sampler.pairs
        pairs += composites
        source.open(list(dict.fromkeys(pairs)), workers)
        self._order = functools.lru_cache(maxsize=4)(self._make_order)

    def __len__(self) -> int:
        return len(self.groups)

    def members(self, epoch: int, position: int) -> tuple[Group, list[Pair | CompositePair], list[int | None]]:
        """Return the images at a position of an epoch.

        Args:
            epoch: number of the epoch, 0 or more.
            position: index in the epoch, less than the number of groups; the group is in batch
                `position // batch_size`, at index `position % batch_size`.

        Returns:
            `(group, pairs, objects)`: the images in order, and for each the index of the mask that shows the object of
            the group: 0, or 1 for the second object of a composite. None for a distractor. The group of a category has
            the name of the category.
        """
        random = generator(self.seed, epoch, MEMBERS, position)
        group = self._draw_group(random) if self.category_share else self.groups[self._order(epoch)[position]]
        distractors = self.distractor_sampler.draw(random, group)
        places = self.images_per_group - len(distractors)
        if self.small_group_share and random.random() < self.small_group_share and places > 2:
            places = int(random.integers(2, places + 1))
            distractors = distractors[: places - 1]
        images = [*self._draw_own(random, group, places), *((pair, None) for pair in distractors)]
        pairs, objects = zip(*(images[i] for i in random.permutation(len(images))), strict=True)
        return group, list(pairs), list(objects)

    def evaluation(self, images_per_group: int | None = None) -> "Dataset":
        """Return all images of all groups in their order, without augmentation, including listed distractors.

        A batch is padded to its largest group; the last batch may be smaller. Each image is resized once from its file
        to `image_size`, as in prediction; the cache is used only if it holds exactly these images (`augment=None`).

        Args:
            images_per_group: splits larger groups into parts of at most this many images, as equal as possible, and
                pads every batch to this number; None keeps groups whole.
        """
        if images_per_group is not None and images_per_group < 1:
            raise ValueError(
                f"`images_per_group` must be 1 or more, or None. Received: images_per_group={images_per_group}"
            )
        parts = []
        for group in self.groups:
            images = [
                (pair, None if distractor else 0, None)
                for pair, distractor in zip(group.pairs, group.distractors, strict=True)
            ]
            count = math.ceil(len(images) / (images_per_group or len(images)))
            parts += [[images[i] for i in part] for part in np.array_split(np.arange(len(images)), count)]

        def batch(step):
            chosen = parts[step * self.batch_size : (step + 1) * self.batch_size]
            return *self._batch(chosen, images_per_group or max(map(len, chosen))), np.zeros(len(chosen), np.int32)

        return self._dataset(batch, 0, math.ceil(len(parts) / self.batch_size), training=False)

    def _make_order(self, epoch):
        return generator(self.seed, epoch, ORDER).permutation(len(self))

    def _draw_group(self, random):
        """Draw a category or a group; see `category_share`."""
        kind = int(random.random() < self.category_share)
        index = int(random.choice(len(self._probabilities[kind]), p=self._probabilities[kind]))
        return (self._categories if kind else self.groups)[index]

    def _draw_own(self, random, group, count):
        """Draw up to `count` of the images of a group and of the composites with them: `(pair, object)`."""
        own = group.own
        composites = [entry for pair in own for entry in self._own_composites.get(pair, ())]
        drawn = []
        if composites:
            wanted = int(random.binomial(count, self.composite_share))
            plain = min(count - min(wanted, len(composites)), len(own))
            drawn = [composites[i] for i in random.permutation(len(composites))[: count - plain]]
            count = plain
        used = {(composite.first, composite.second)[index] for composite, index in drawn}
        # rather images that are not part of a drawn composite, so that no object occurs twice
        order = sorted(random.permutation(len(own)), key=lambda i: own[i] in used)
        return [(own[i], 0) for i in order[:count]] + drawn

    def _training_batch(self, epoch, step):
        groups, numbers = [], []
        for position in self.positions(step):
            group, pairs, objects = self.members(epoch, position)
            draws = self.source.draw(generator(self.seed, epoch, AUGMENTATION, position), self.images_per_group)
            groups.append(list(zip(pairs, objects, draws, strict=False)))
            numbers.append(self._numbers[group.name] if self._numbers else 0)
        return *self._batch(groups, self.images_per_group), np.array(numbers, np.int32)

    def _batch(self, groups, length):
        """Return the arrays of a batch; a group is a list of `(pair, object, draws)`, padded to `length`."""
        places = len(groups), length
        inputs = {name: np.zeros((*places, *shape), dtype) for name, (shape, dtype) in self.source.inputs.items()}
        mask = np.zeros(places, bool)
        targets = np.zeros((*places, *self.image_size, 1), np.uint8)
        for i, images in enumerate(groups):
            for n, (pair, index, draws) in enumerate(images):
                arrays, masks = self.source.read(pair, draws)
                for name, array in arrays.items():
                    inputs[name][i, n] = array
                mask[i, n] = True
                if index is not None:
                    targets[i, n, ..., 0] = masks[index]
        return *inputs.values(), mask, targets

    def _to_inputs(self, *arrays, training):
        *arrays, mask, targets, numbers = arrays
        size = self.local_batch_size if training and self.drop_remainder else None
        places = size, self.images_per_group if training else None
        inputs = {
            name: tensor(array, (*places, *shape))
            for (name, (shape, _)), array in zip(self.source.inputs.items(), arrays, strict=True)
        }
        inputs["mask"] = tensor(mask, places, "bool")
        targets = tensor(targets, (*places, *self.image_size, 1)) / 255.0
        if training and self._numbers:
            inputs |= {"group": tensor(numbers, (size,), "int32"), "objects": targets}
        return inputs, targets


def _by_pair(composites):
    """Return pair → `(composite, object)` of the composites that contain it."""
    found = {}
    for composite in composites:
        for index, pair in enumerate((composite.first, composite.second)):
            found.setdefault(pair, []).append((composite, index))
    return found


def _categories(groups):
    """Return a group for each category, with the images of all its groups."""
    members = {}
    for group in groups:
        members.setdefault(group.category, {}).update((pair.name, pair) for pair in group.own)
    return [Group(category, tuple(pairs.values())) for category, pairs in members.items()]


def _root_shares(groups):
    """Return probabilities proportional to the square root of the number of images."""
    roots = np.sqrt([len(group.own) for group in groups])
    return roots / roots.sum()
