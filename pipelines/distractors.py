"""Draw distractors: images that do not belong to a group."""

import functools
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_recnet.pipelines.composites import CompositePair
from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pair_reading import Pair


class DistractorSampler:
    """Sampler of distractors for groups.

    Args:
        groups: all groups. An image of any group of a category is never a distractor for that category.
        pool: pairs to draw from; None draws from the images that belong to any group, except those with
            `several_objects`.
        amount: a number, a range `(least, most)`, or a share (a float) of a group's images.
        images_per_group: maximum number of images per group.
        composites: composites to draw from, too; never those with an image of the group's category.
        composite_share: share of the distractors that are composites, below 1.

    Attributes:
        pairs: all pairs that may be drawn, each image once; empty if `amount` is 0.

    Raises:
        ValueError: if `amount` is out of range, or there are no distractors for any group.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        pool: Sequence[Pair] | None,
        amount: int | float | tuple[int, int],
        images_per_group: int,
        composites: Sequence[CompositePair] = (),
        composite_share: float = 0.0,
    ):
        self.images_per_group = images_per_group
        self.share = float(amount) if isinstance(amount, float) else None
        self.least, self.most = _range(amount, images_per_group)
        self.composite_share = composite_share
        self.pairs, self._members, self._composites = [], {}, {}
        if self.most == 0:
            return
        if pool is None:
            candidates = [pair for group in groups if not group.several_objects for pair in group.own]
        else:
            # the pool's masks are not needed, but a pair that belongs to a group must stay unchanged
            own = {pair for group in groups for pair in group.own}
            candidates = [pair if pair in own else replace(pair, mask=None) for pair in pool]
        # an image may occur with several masks and names, so it is identified by its file
        file_of, files = functools.cache(os.path.realpath), {}
        for pair in candidates:
            files.setdefault(file_of(pair.image), pair)
        self.pairs = list(files.values())
        indices = {file: index for index, file in enumerate(files)}
        of_category = {}
        for group in groups:
            of_category.setdefault(group.category, set()).update(file_of(pair.image) for pair in group.own)
        self._members = {
            category: {indices[file] for file in own_files if file in indices}
            for category, own_files in of_category.items()
        }
        if all(len(members) == len(files) for members in self._members.values()):
            raise ValueError(
                "`distractors` needs images of other groups, or a `distractor_pool` with other images. Received: "
                f"{len(groups)} groups of {len(self._members)} categories, "
                f"distractor_pool={None if pool is None else f'{len(pool)} pairs'}"
            )
        parts = [(c, file_of(c.first.image), file_of(c.second.image)) for c in composites]
        self._composites = {
            category: [c for c, first, second in parts if first not in own_files and second not in own_files]
            for category, own_files in of_category.items()
        }

    def draw(self, random: np.random.Generator, group: Group) -> list[Pair | CompositePair]:
        """Draw the distractors of one of the groups."""
        if self.most == 0:
            return []
        members, composites = self._members[group.category], self._composites[group.category]
        count = min(self._count(random, len(group.own)), len(self.pairs) - len(members))
        drawn = []
        if composites:
            wanted = min(int(random.binomial(count, self.composite_share)), len(composites))
            drawn = [composites[i] for i in random.choice(len(composites), wanted, replace=False)]
        taken = set(members)
        while len(drawn) < count:
            index = int(random.integers(len(self.pairs)))
            if index not in taken:
                taken.add(index)
                drawn.append(self.pairs[index])
        return drawn

    def _count(self, random, own):
        if self.share is not None:
            # rounded at random, so that small groups meet the share on average
            count = int(self.share * min(self.images_per_group, own / (1 - self.share)) + random.random())
        else:
            count = int(random.integers(self.least, self.most + 1))
        # always fewer than the group's own images
        return min(count, (self.images_per_group - 1) // 2, max(own - 1, 0))


def _range(amount, images_per_group):
    """Return the least and the largest number of distractors per group."""
    if isinstance(amount, float):
        least, most = (0, int(amount > 0)) if 0 <= amount < 0.5 else (-1, -1)
    else:
        least, most = (amount, amount) if isinstance(amount, int | np.integer) else amount
    if not 0 <= least <= most or (most > 0 and 2 * most >= images_per_group):
        raise ValueError(
            "`distractors` must be a number, a range (least, most) or a share below half of `images_per_group`. "
            f"Received: distractors={amount!r}, images_per_group={images_per_group}"
        )
    return int(least), int(most)
