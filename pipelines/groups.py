"""Find groups of images in folders or CSV lists; split and check them."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_recnet.files import walk
from keras_recnet.imaging.reading import SUFFIXES
from keras_recnet.pipelines.checks import Progress, check_pairs, problems_of_files
from keras_recnet.pipelines.group_lists import Member, parse_group_list, write_group_list
from keras_recnet.pipelines.pair_reading import Pair, PipelineDataError
from keras_recnet.pipelines.pairs import find_pairs

# Names of the two folders in iCoseg, MSRC, Cosal2015, CoSOD3k (Image, GroundTruth), CoCA (image, binary), the
# COCO subset of 9,213 images (img, gt) and in derived datasets.
IMAGE_FOLDERS = frozenset(("image", "images", "img", "imgs"))
MASK_FOLDERS = frozenset(("groundtruth", "ground_truth", "gt", "gts", "binary", "mask", "masks"))
SPLIT_BY = ("images", "groups")


@dataclass(frozen=True)
class Group:
    """Images that have something in common.

    Args:
        name: the group's name.
        pairs: its images and their masks, in order.
        distractors: one flag per image, True if it does not belong to the group; its mask in this group is then empty.
            Without flags, all images belong to the group.
        category: what the group shows; groups of the same category provide no distractors for each other. By default
            the group's name.
        several_objects: whether the images may also show objects of other categories, as in COCO. Then they are not
            used as distractors of other groups or in composites.

    Raises:
        ValueError: if there are no images, no image belongs to the group, an image occurs twice, or the number of flags
            is not the number of images.
    """

    name: str
    pairs: tuple[Pair, ...]
    distractors: tuple[bool, ...] = ()
    category: str = ""
    several_objects: bool = False

    def __post_init__(self):
        object.__setattr__(self, "pairs", tuple(self.pairs))
        object.__setattr__(self, "distractors", tuple(self.distractors) or (False,) * len(self.pairs))
        object.__setattr__(self, "category", self.category or self.name)
        if len(self.distractors) != len(self.pairs) or all(self.distractors):
            raise ValueError(
                f"The group {self.name!r} needs an image that is not a distractor, and no flags or one flag per image. "
                f"Received: {len(self.pairs)} pairs, distractors={self.distractors}"
            )
        names = [pair.name for pair in self.pairs]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"No image may occur twice in the group {self.name!r}. Received twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def own(self) -> tuple[Pair, ...]:
        """The images that belong to the group."""
        return tuple(
            pair for pair, is_distractor in zip(self.pairs, self.distractors, strict=True) if not is_distractor
        )


def find_groups(
    root: str | os.PathLike | None = None,
    *,
    images: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
    exclude: str | os.PathLike | Sequence[str] | None = None,
) -> list[Group]:
    """Find groups in folders: each subfolder of the images is a group, and masks have the same structure.

    This is the layout of the public datasets: `Image/GROUP/NAME.jpg` and `GroundTruth/GROUP/NAME.png` (Cosal2015,
    CoSOD3k, iCoseg, MSRC), `image/…` and `binary/…` (CoCA). A group of one image is allowed, and a warning names it.

    Args:
        root: folder that contains the two folders under one of their usual names.
        images: folder of images; pass it with `masks` instead of `root`.
        masks: folder of masks.
        exclude: names (`GROUP/NAME`) to leave out, as a sequence or a list file (see `find_pairs`).

    Returns:
        Groups sorted by name, each with its images sorted.

    Raises:
        PipelineDataError: naming every image without a mask, mask without an image, image that is in no group,
            empty group, and so on.
        ValueError: if neither `root` nor both folders are given.

    Example:
        >>> groups = find_groups("Cosal2015")
        >>> groups[0].name, len(groups[0])
        ('aeroplane', 44)
    """
    if (root is None) == (images is None or masks is None):
        raise ValueError(f"Pass `root`, or `images` and `masks`. Received: root={root}, images={images}, masks={masks}")
    if root is not None:
        images, masks = _two_folders(Path(root))
    pairs = _find_pairs(_problems_of_folders(Path(images)), images, masks, exclude=exclude)
    members = {}
    for pair in pairs:
        members.setdefault(pair.name.rpartition("/")[0], []).append(pair)
    return _warn_of_single_images([Group(name, pairs) for name, pairs in sorted(members.items())])


def read_groups(
    path: str | os.PathLike,
    images: str | os.PathLike,
    masks: str | os.PathLike,
    *,
    split: str | None = None,
) -> list[Group]:
    """Read the groups of a CSV list (`group,name,split`, see `read_group_list`) from two folders.

    Args:
        path: the list. Its names are paths inside the two folders, without suffix.
        images: folder of images.
        masks: folder of masks.
        split: use only this split.

    Returns:
        Groups, in the order of the list.

    Raises:
        PipelineDataError: naming every invalid line and every name without files.

    Example:
        >>> groups = read_groups("DUTS-TR/groups.csv", "DUTS-TR/images", "DUTS-TR/masks", split="train")
    """
    listed, problems = parse_group_list(path, split)
    if not listed:
        raise PipelineDataError(problems)
    names = list(dict.fromkeys(member.name for members in listed.values() for member in members))
    pairs = dict(zip(names, _find_pairs(problems, images, masks, names=names), strict=True))
    return _warn_of_single_images(
        [
            Group(
                name,
                tuple(pairs[member.name] for member in members),
                tuple(member.distractor for member in members),
                members[0].category,
            )
            for name, members in listed.items()
        ]
    )


def write_groups(path: str | os.PathLike, groups: Iterable[Group], *, split: str = "") -> None:
    """Write groups, all of the same split, as a CSV list that `read_groups` reads."""
    members = []
    for group in groups:
        category = "" if group.category == group.name else group.category
        for pair, is_distractor in zip(group.pairs, group.distractors, strict=True):
            members.append(Member(group.name, pair.name, split, is_distractor, category))
    write_group_list(path, members)


def split_groups(
    groups: Sequence[Group], *, seed: int = 0, share: float = 0.5, by: str = "images"
) -> tuple[list[Group], list[Group]]:
    """Split groups for training and test; the default is the 50 %–50 % split of the RCAU paper (*the seed is ours*).

    Args:
        groups: the groups.
        seed: 0 or more.
        share: fraction used for training, 0…1.
        by: `"images"` splits the images of every group, as we understand the paper; `"groups"` splits the groups.

    Returns:
        `(training, test)`. Groups and images keep their order, which has no influence on the split: it depends on the
        names only. With `by="images"`, the share is exact to within one image per group and one image in total; a group
        of one image is not divided.

    Raises:
        ValueError: if `share` or `by` is out of range.
    """
    if by not in SPLIT_BY or not 0 <= share <= 1:
        raise ValueError(f"`share` must be in 0…1 and `by` be one of {SPLIT_BY}. Received: share={share}, by={by!r}")
    random = np.random.default_rng(seed)
    names = sorted(group.name for group in groups)
    if by == "groups":
        chosen = {names[i] for i in random.permutation(len(names))[: round(share * len(names))]}
        return tuple([group for group in groups if (group.name in chosen) == first] for first in (True, False))
    images = {group.name: sorted(pair.name for pair in group.pairs) for group in groups}
    chosen, start = {}, random.random()
    for name in names:
        # The running total passes an integer at every training image, so the share is exact over all groups, too.
        steps = np.floor(start + share * np.arange(len(images[name]) + 1))
        start = (start + share * len(images[name])) % 1.0
        in_training = np.diff(steps)[random.permutation(len(images[name]))] > 0
        chosen[name] = {image for image, keep in zip(images[name], in_training, strict=True) if keep}
    sides = ([], [])
    for group in groups:
        for side, first in zip(sides, (True, False), strict=True):
            pairs = [
                (pair, flag)
                for pair, flag in zip(group.pairs, group.distractors, strict=True)
                if (pair.name in chosen[group.name]) == first
            ]
            if not all(is_distractor for _, is_distractor in pairs):
                pairs, flags = zip(*pairs, strict=True)
                side.append(replace(group, pairs=pairs, distractors=flags))
    return sides


def single_images(pairs: Iterable[Pair]) -> list[Group]:
    """Make each pair a group of one, to train a group network on single images as well."""
    return [Group(pair.name, (pair,)) for pair in pairs]


def check_groups(
    groups: Iterable[Group], *, decode: bool = False, workers: int = 2, progress: Progress | None = None
) -> None:
    """Check all images of the groups with `check_pairs`, each image once."""
    pairs = list(dict.fromkeys(pair for group in groups for pair in group.pairs))
    check_pairs(pairs, decode=decode, workers=workers, progress=progress)


def _find_pairs(problems, *folders, **options):
    """Call `find_pairs`, and raise its problems together with `problems`."""
    try:
        pairs = find_pairs(*folders, **options)
    except PipelineDataError as error:
        raise PipelineDataError(problems + error.problems) from None
    if problems:
        raise PipelineDataError(problems + problems_of_files(pairs))
    return pairs


def _two_folders(root):
    if not root.is_dir():
        raise PipelineDataError([f"{root}: no such folder"], "Pass the folder that contains images and masks.")
    inner = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [[path for path in inner if path.name.lower() in names] for names in (IMAGE_FOLDERS, MASK_FOLDERS)]
    problems = []
    for paths, kind, names in zip(found, ("images", "masks"), (IMAGE_FOLDERS, MASK_FOLDERS), strict=True):
        if len(paths) != 1:
            received = ", ".join(path.name for path in paths or inner) or "no folder at all"
            problems.append(
                f"{root}: {'several folders' if paths else 'no folder'} of {kind}. Its name must be one of "
                f"{', '.join(sorted(names))}, ignoring case. Received: {received}"
            )
    if problems:
        raise PipelineDataError(problems, "Pass the two folders instead: images=…, masks=….")
    return found[0][0], found[1][0]


def _problems_of_folders(images):
    """Return problems: images outside any group, and groups without images."""
    problems = []
    for folder, inner, files in walk(images, SUFFIXES):
        if Path(folder) == images:
            problems += [f"{images / name}: not in the subfolder of a group" for name in files]
        elif not inner and not files:
            problems.append(f"{folder}: empty group, no image in it")
    return problems


def _warn_of_single_images(groups):
    alone = [group.name for group in groups if len(group.own) == 1]
    if alone:
        shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        warnings.warn(
            f"{len(alone)} of {len(groups)} groups have only one image and nothing to compare it with: {shown}",
            stacklevel=3,
        )
    return groups
