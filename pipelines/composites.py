"""Composite training images for co-saliency: two images in one, with a mask for the object of each.

A network that sees one image cannot know which of two objects its group has in common, so composites make the group
matter: a composite of a cat and a car shows the cat in a group of cats, the car in a group of cars, and nothing in a
group of birds.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pair_reading import Pair, read_pair
from keras_recnet.pipelines.seeding import COMPOSITES, generator

KINDS = ("mosaic", "paste")
SMALLEST_OBJECT = 0.02  # share of the composite; a smaller object is hardly visible at the network's size
LARGEST_COVER = 0.15  # share of an object that a pasted one may hide
TRIES = 20


class Composite(NamedTuple):
    """Two images in one.

    Attributes:
        image: uint8 `(height, width, 3)`, RGB.
        first: mask of the first image's object, uint8 `(height, width)`, 0 or 255.
        second: mask of the second image's object, likewise.
    """

    image: np.ndarray
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class CompositePair:
    """Two pairs of different categories that are combined into a composite when they are read.

    Args:
        name: any name.
        first: the first pair, with a mask.
        second: the second pair, with a mask.
        seed: determines, with `number`, how the images are combined.
        number: 0 or more.
    """

    name: str
    first: Pair
    second: Pair
    seed: int
    number: int

    def read(self, size: int) -> Composite:
        """Read the two pairs and combine them.

        If no composite can show both objects (one mask is empty, or one object is a thin line), the first image is
        returned alone, with an empty mask for the second object.

        Args:
            size: side of a mosaic, and half of the largest side of a paste, in pixels.

        Raises:
            PipelineDataError: if a file cannot be used.
        """
        first, second = (_read_with_mask(pair, 2 * size) for pair in (self.first, self.second))
        random = generator(self.seed, 1, COMPOSITES, self.number)
        for _ in range(TRIES):
            composite = compose(first, second, random, size=size)
            if composite is not None:
                return composite
        return Composite(*first, np.zeros_like(first[1]))


def plan_composites(groups: Iterable[Group], count: int, seed: int = 0) -> list[CompositePair]:
    """Choose the two images of each of `count` composites.

    Composite k depends only on `groups`, `seed` and k. Its images have different categories, which are drawn with a
    probability proportional to the square root of their number of images, so that large categories are more frequent,
    but small ones are not lost. An image that occurs in several categories is combined with none of them.

    Args:
        groups: the groups whose images are combined, except those with `several_objects`.
        count: number of composites.
        seed: any integer.

    Raises:
        ValueError: if the groups do not have images of two categories.
    """
    members, categories_of = {}, {}
    for group in groups:
        for pair in group.own:
            if not group.several_objects:
                members.setdefault(group.category, {})[pair] = None
            categories_of.setdefault(os.path.realpath(pair.image), set()).add(group.category)
    names, pairs = list(members), [list(images) for images in members.values()]
    share = np.sqrt([len(images) for images in pairs])
    share /= share.sum()
    files = {pair: os.path.realpath(pair.image) for images in pairs for pair in images}
    composites = []
    for number in range(count if len(names) > 1 else 0):
        random = generator(seed, 0, COMPOSITES, number)
        for _ in range(TRIES):
            chosen = random.choice(len(names), 2, replace=False, p=share)
            first, second = (pairs[index][int(random.integers(len(pairs[index])))] for index in chosen)
            if categories_of[files[first]].isdisjoint(categories_of[files[second]]):
                name = f"composite {number}: {first.name} + {second.name}"
                composites.append(CompositePair(name, first, second, seed, number))
                break
    if len(composites) < count:
        raise ValueError(
            f"`groups` must have images of two categories to combine. Received: {len(names)} categories, "
            f"{len(files)} images"
        )
    return composites


def compose(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
    *,
    kinds: tuple[str, ...] = KINDS,
    size: int = 320,
) -> Composite | None:
    """Combine two images by one of `kinds`, drawn at random; a paste that does not fit becomes a mosaic.

    Args:
        first: image, uint8 `(height, width, 3)`, and mask, uint8 `(height, width)`, above 127 for the object.
        second: likewise.
        random: source of all random choices.
        kinds: subset of `("mosaic", "paste")`.
        size: side of a mosaic in pixels. A paste has the size of `first`.

    Returns:
        The composite; None if an object is empty or would be smaller than 2 % of the composite.
    """
    if not (first[1] > 127).any() or not (second[1] > 127).any():
        return None
    kind = kinds[int(random.integers(len(kinds)))]
    result = paste(first, second, random) if kind == "paste" else None
    if result is None and "mosaic" in kinds:
        result = mosaic(first, second, random, size=size)
    if result is None or min((mask > 127).mean() for mask in result[1:]) < SMALLEST_OBJECT:
        return None
    return result


def mosaic(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
    *,
    size: int = 320,
) -> Composite:
    """Put two images, cropped around their objects, side by side or one above the other.

    The order of the images, the direction, the position of the border and the crops are drawn from `random`.

    Args:
        first: see `compose`.
        second: see `compose`.
        random: source of all random choices.
        size: height and width of the mosaic in pixels.

    Reference:
        The jigsaw strategy of Zhang et al., Gradient-Induced Co-Saliency Detection, ECCV 2020.
    """
    swapped, stacked = random.random() < 0.5, random.random() < 0.35
    border = round(size * random.uniform(0.4, 0.6))
    parts = (second, first) if swapped else (first, second)
    image, masks = np.zeros((size, size, 3), np.uint8), np.zeros((2, size, size), np.uint8)
    for n, (part, place) in enumerate(zip(parts, (slice(None, border), slice(border, None)), strict=True)):
        area = (place, slice(None)) if stacked else (slice(None), place)
        image[area], masks[n][area] = _crop(*part, image[area].shape[:2], random)
    return Composite(image, *(masks[::-1] if swapped else masks))


def paste(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], random: np.random.Generator
) -> Composite | None:
    """Cut the object out of the second image and paste it onto the first, where it hides little of the first's object.

    Both images are mirrored at random. The pasted object has 30 to 60 % of the largest size that fits into the first
    image.

    Args:
        first: see `compose`.
        second: see `compose`.
        random: source of all random choices.

    Returns:
        The composite, or None if the second object touches two opposite edges of its image (it is cut off) or fits
        nowhere.

    Reference:
        The synthesis of Zhang et al., Summarize and Search: Learning Consensus-aware Dynamic Convolution for
        Co-Saliency Detection, ICCV 2021.
    """
    (image, mask), (source, cutout) = (
        (image[:, ::-1], mask[:, ::-1]) if random.random() < 0.5 else (image, mask) for image, mask in (first, second)
    )
    top, bottom, left, right = _bounds(cutout)
    if (top == 0 and bottom == cutout.shape[0]) or (left == 0 and right == cutout.shape[1]):
        return None
    source, cutout = source[top:bottom, left:right], cutout[top:bottom, left:right]
    for _ in range(TRIES):
        scale = random.uniform(0.3, 0.6) * min(mask.shape[0] / cutout.shape[0], mask.shape[1] / cutout.shape[1])
        height, width = (max(8, int(scale * side)) for side in cutout.shape)
        if height >= mask.shape[0] or width >= mask.shape[1]:
            continue
        y, x = (int(random.integers(0, most + 1)) for most in (mask.shape[0] - height, mask.shape[1] - width))
        area = (slice(y, y + height), slice(x, x + width))
        alpha = resize(cutout, (height, width))
        if ((mask[area] > 127) & (alpha > 127)).sum() > LARGEST_COVER * (mask > 127).sum():
            continue
        result, second_mask = image.copy(), np.zeros_like(mask)
        weight = alpha[..., None] / 255.0
        result[area] = np.rint(result[area] * (1 - weight) + resize(source, (height, width)) * weight)
        second_mask[area] = np.where(alpha > 127, 255, 0)
        return Composite(result, np.where((mask > 127) & (second_mask == 0), 255, 0).astype(np.uint8), second_mask)
    return None


def _read_with_mask(pair, longest):
    """Read a pair at a size of at most `longest` per side, with a mask of 0 and 255 of the image's size."""
    image, mask = read_pair(pair, longest)
    scale = min(1.0, longest / max(image.shape[:2]))
    size = tuple(max(1, round(scale * side)) for side in image.shape[:2])
    return resize(image, size), np.where(resize(mask, size) > 127, np.uint8(255), np.uint8(0))


def _bounds(mask):
    """(top, bottom, left, right) of the object."""
    rows, columns = np.flatnonzero((mask > 127).any(1)), np.flatnonzero((mask > 127).any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _crop(image, mask, size, random):
    """Crop around the object with some margin and the aspect ratio of `size`, then resize to `size`."""
    (rows, columns), (top, bottom, left, right) = mask.shape, _bounds(mask)
    margin = random.uniform(1.1, 1.8)
    height, width = margin * (bottom - top), margin * (right - left)
    height, width = max(height, width * size[0] / size[1]), max(width, height * size[1] / size[0])
    shrink = min(1.0, rows / height, columns / width)
    height, width = height * shrink, width * shrink
    y = np.clip((top + bottom) / 2 + random.uniform(-0.1, 0.1) * height - height / 2, 0, rows - height)
    x = np.clip((left + right) / 2 + random.uniform(-0.1, 0.1) * width - width / 2, 0, columns - width)
    box = (max(x, 0) / columns, max(y, 0) / rows, (x + width) / columns, (y + height) / rows)
    return resize(image, size, box), np.where(resize(mask, size, box) > 127, 255, 0)
