"""Synthetic images of shapes with masks, to test training without data."""

import os
from pathlib import Path

import cv2
import numpy as np

from keras_recnet.imaging import writing


def draw(rng: np.random.Generator, side: int = 80, kind: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bright ellipse, rectangle or triangle on colored noise.

    Args:
        rng: source of all random numbers.
        side: height and width in pixels.
        kind: 0 ellipse, 1 rectangle, 2 triangle, each in a similar color every time; None: any shape and color.

    Returns:
        RGB image `(side, side, 3)` uint8 and mask `(side, side)` uint8, 0 or 255.
    """
    coarse = rng.uniform(0, 140, (4, 4, 3)).astype("float32")
    image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((side, side), np.uint8)
    center = rng.uniform(0.35, 0.65, 2) * side
    radii = rng.uniform(0.15, 0.3, 2) * side
    color = rng.uniform(150, 255, 3) if kind is None else np.roll((255.0, 150.0, 60.0), kind) + rng.uniform(-30, 0, 3)
    kind = rng.integers(3) if kind is None else kind
    if kind == 0:
        cv2.ellipse(mask, (center.tolist(), (2 * radii).tolist(), float(rng.uniform(0, 180))), 255, -1)
    else:
        angles = rng.uniform(0, 2 * np.pi) + np.arange(5 - kind) * 2 * np.pi / (5 - kind)
        corners = center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], 255)
    image = np.where(mask[..., None] > 0, color, image) + rng.normal(0, 8, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


def write(folder: str | os.PathLike, count: int, seed: int, side: int = 80) -> tuple[Path, Path]:
    """Write `count` images to `folder/images` and their masks to `folder/masks`; the seed determines them.

    Returns:
        The two folders.
    """
    for index in range(count):
        _write(folder, f"{index:04d}.png", *draw(np.random.default_rng((seed, index)), side))
    return Path(folder) / "images", Path(folder) / "masks"


def write_groups(folder: str | os.PathLike, count: int, seed: int, size: int = 4, side: int = 80) -> tuple[Path, Path]:
    """Write `count` groups of `size` images to subfolders of `folder/images`, and their masks to `folder/masks`.

    The images of a group show the same kind of shape, and consecutive groups show different kinds.

    Returns:
        The two folders.
    """
    for group in range(count):
        for index in range(size):
            image, mask = draw(np.random.default_rng((seed, group, index)), side, kind=group % 3)
            _write(folder, f"group{group:03d}/{index:04d}.png", image, mask)
    return Path(folder) / "images", Path(folder) / "masks"


def _write(folder, name, image, mask):
    for kind, pixels in (("images", image), ("masks", mask)):
        writing.write(writing.encode(pixels), Path(folder, kind, name))
