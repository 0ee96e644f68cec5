"""Which images are shown to a group as distractors, and how many."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pairs import Pair


class Distractors:
    """Draws images that are distractors to a group.

    Args:
        groups: all groups. No image of any group of a category is distractors to that category.
        pool: pairs to take from; None takes the own images of all groups.
        amount: a number, a range `(least, most)`, or a share (a float) of a group's images.
        images_per_group: most images of a group.

    Attributes:
        pairs: all that may be drawn, each image once; empty when `amount` is 0.

    Raises:
        ValueError: if `amount` is out of range or no group has anything distractors to it.
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
        self.least, self.most = _range_of(amount, images_per_group)
        self.pairs, self._members = [], {}
        self._near, self._near_share = {}, 0.0
        if self.most == 0:
            return
        known = dict.fromkeys(pair for group in groups for pair in group.own)
        if pool is None:
            candidates = list(known)
        else:
            # Masks of the pool are not needed, except that a pair of the groups shall stay the same.
            candidates = [pair if pair in known else replace(pair, mask=None) for pair in pool]
        # One photograph may have several masks, and a name in several folders: its file tells that it is the same.
        files = {}
        for pair in candidates:
            files.setdefault(os.path.realpath(pair.image), pair)
        self.pairs = list(files.values())
        places = {file: place for place, file in enumerate(files)}
        for group in groups:
            found = self._members.setdefault(group.category, set())
            found.update(places[f] for f in (os.path.realpath(p.image) for p in group.own) if f in places)
        if all(len(found) == len(files) for found in self._members.values()):
            raise ValueError(
                "`distractors` needs images of other groups, or a `distractor_pool` with other images. Received: "
                f"{len(groups)} groups of {len(self._members)} categories, "
                f"distractor_pool={None if pool is None else f'{len(pool)} pairs'}"
            )

    def prefer(self, near: Mapping[str, Sequence[str]], share: float) -> None:
        """Draws `share` of the distractors from categories that are like the group's: they are the harder to tell.

        A category is drawn first, then one of its images, so that a large one comes as often as a small one.

        Args:
            near: for each category, others that are like it.
            share: 0…1.

        Raises:
            ValueError: if the share is out of range.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"`share` must lie in 0…1. Received: share={share!r}")
        self._near_share = share
        for category, others in near.items():
            own = self._members.get(category, set())
            places = [sorted(self._members[other] - own) for other in others if self._members.get(other)]
            self._near[category] = [found for found in places if found]

    def draw(self, random: np.random.Generator, group: Group) -> tuple[int, list[Pair]]:
        """Draws for one group.

        Args:
            random: where the numbers come from.
            group: one of the groups.

        Returns:
            `(count, pairs)`: how many of the group's places they take, and the images.
        """
        if self.most == 0:
            return 0, []
        members = self._members[group.category]
        count = min(self._count(random, len(group.own)), len(self.pairs) - len(members))
        taken, chosen = set(members), []
        near, tries = self._near.get(group.category), 0
        while len(chosen) < count:
            # a few tries, since the categories that are like this one may have no image left
            if near and tries < 4 * count and random.random() < self._near_share:
                tries += 1
                among = near[int(random.integers(len(near)))]
                place = among[int(random.integers(len(among)))]
            else:
                place = int(random.integers(len(self.pairs)))
            if place not in taken:
                taken.add(place)
                chosen.append(self.pairs[place])
        return count, chosen

    def _count(self, random, own):
        if self.share is not None:
            # Rounded at random, so that small groups meet the share on the average.
            count = int(self.share * min(self.images_per_group, own / (1 - self.share)) + random.random())
        else:
            count = int(random.integers(self.least, self.most + 1))
        # Always fewer than the group's own images.
        return min(count, (self.images_per_group - 1) // 2, max(own - 1, 0))


def _range_of(amount, images_per_group):
    """(least, most) distractors of a group."""
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
