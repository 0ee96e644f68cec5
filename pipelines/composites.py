"""Composite training images for co-saliency: two images in one, with a mask for the object of each.

A network that sees one image cannot know which of two objects its group has in common, so composites make the group
matter: a composite of a cat and a car shows the cat in a group of cats, the car in a group of cars, and nothing in a
group of birds.
"""

from typing import NamedTuple

import numpy as np

from keras_recnet.imaging.resizing import resize

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

    Which comes first, the direction, the position of the border and the crops are drawn from `random`.

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

    Both images are mirrored at random. The pasted object takes 30 to 60 % of the first image's shorter fit.

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
