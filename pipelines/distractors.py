"""Draw distractors: images that do not belong to a group."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pair_reading import Pair


class DistractorSampler:
    """Sampler of distractors for groups.

    Args:
        groups: all groups. An image of any group of a category is never a distractor for that category.
        pool: pairs to draw from; None draws from the images that belong to any group.
        amount: a number, a range `(least, most)`, or a share (a float) of a group's images.
        images_per_group: maximum number of images per group.

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
    ):
        self.images_per_group = images_per_group
        self.share = float(amount) if isinstance(amount, float) else None
        self.least, self.most = _range(amount, images_per_group)
        self.pairs, self._members = [], {}
        self._hard_negatives, self._hard_negative_share = {}, 0.0
        if self.most == 0:
            return
        own = dict.fromkeys(pair for group in groups for pair in group.own)
        # the pool's masks are not needed, but a pair that belongs to a group must stay unchanged
        candidates = own if pool is None else [pair if pair in own else replace(pair, mask=None) for pair in pool]
        # an image may occur with several masks and names, so it is identified by its file
        files = {}
        for pair in candidates:
            files.setdefault(os.path.realpath(pair.image), pair)
        self.pairs = list(files.values())
        indices = {file: index for index, file in enumerate(files)}
        for group in groups:
            members = self._members.setdefault(group.category, set())
            members.update(indices[f] for f in (os.path.realpath(p.image) for p in group.own) if f in indices)
        if all(len(members) == len(files) for members in self._members.values()):
            raise ValueError(
                "`distractors` needs images of other groups, or a `distractor_pool` with other images. Received: "
                f"{len(groups)} groups of {len(self._members)} categories, "
                f"distractor_pool={None if pool is None else f'{len(pool)} pairs'}"
            )

    def prefer(self, hard_negatives: Mapping[str, Sequence[str]], share: float) -> None:
        """Draw a share of the distractors from categories that are easily confused with the group's category.

        A category is drawn first, then one of its images, so that large and small categories are equally frequent.

        Args:
            hard_negatives: category → similar categories.
            share: share of the distractors, 0…1.

        Raises:
            ValueError: if `share` is out of range.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"`share` must be in 0…1. Received: share={share!r}")
        self._hard_negative_share = share
        for category, others in hard_negatives.items():
            own = self._members.get(category, set())
            indices = [sorted(self._members[other] - own) for other in others if self._members.get(other)]
            self._hard_negatives[category] = [members for members in indices if members]

    def draw(self, random: np.random.Generator, group: Group) -> list[Pair]:
        """Draw the distractors of one of the groups."""
        if self.most == 0:
            return []
        members = self._members[group.category]
        count = min(self._count(random, len(group.own)), len(self.pairs) - len(members))
        taken, drawn = set(members), []
        hard_negatives, tries = self._hard_negatives.get(group.category), 0
        while len(drawn) < count:
            # the number of tries is limited, because the similar categories may have no image left
            if hard_negatives and tries < 4 * count and random.random() < self._hard_negative_share:
                tries += 1
                category = hard_negatives[int(random.integers(len(hard_negatives)))]
                index = category[int(random.integers(len(category)))]
            else:
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
