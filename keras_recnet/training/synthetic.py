"""Pictures of shapes with their masks: data for trying out a training where there is none."""

import os
from pathlib import Path

import cv2
import numpy as np


def draw(rng: np.random.Generator, side: int = 80, kind: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One picture: a bright ellipse, rectangle or triangle on coloured noise.

    Args:
        rng: decides everything.
        side: height and width in pixels.
        kind: 0 ellipse, 1 rectangle, 2 triangle, of a colour that goes with it; None: any, of any bright colour.

    Returns:
        Picture `(side, side, 3)` uint8 and mask `(side, side)` uint8, 0 or 255.
    """
    coarse = rng.uniform(0, 140, (4, 4, 3)).astype("float32")
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((side, side), np.uint8)
    centre = rng.uniform(0.35, 0.65, 2) * side
    radii = rng.uniform(0.15, 0.3, 2) * side
    colour = rng.uniform(150, 255, 3) if kind is None else np.roll((255.0, 150.0, 60.0), kind) + rng.uniform(-30, 0, 3)
    kind = rng.integers(3) if kind is None else kind
    if kind == 0:
        cv2.ellipse(mask, (centre.tolist(), (2 * radii).tolist(), float(rng.uniform(0, 180))), 255, -1)
    else:
        angles = rng.uniform(0, 2 * np.pi) + np.arange(5 - kind) * 2 * np.pi / (5 - kind)
        corners = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], 255)
    picture = np.where(mask[..., None] > 0, colour, picture) + rng.normal(0, 8, picture.shape)
    return picture.clip(0, 255).astype(np.uint8), mask


def write(folder: str | os.PathLike, count: int, seed: int, side: int = 80) -> tuple[Path, Path]:
    """Writes `count` pictures to `folder/images` and their masks to `folder/masks`, the same for the same seed.

    Returns:
        The two folders.
    """
    images, masks = Path(folder) / "images", Path(folder) / "masks"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture, mask = draw(np.random.default_rng((seed, index)), side)
        cv2.imwrite(str(images / f"{index:04d}.png"), picture[..., ::-1])
        cv2.imwrite(str(masks / f"{index:04d}.png"), mask)
    return images, masks


def write_groups(folder: str | os.PathLike, count: int, seed: int, size: int = 4, side: int = 80) -> tuple[Path, Path]:
    """Writes `count` groups of `size` pictures to subfolders of `folder/images`, and their masks to `folder/masks`.

    The pictures of a group show one kind of shape, and neighbouring groups different kinds.

    Returns:
        The two folders.
    """
    images, masks = Path(folder) / "images", Path(folder) / "masks"
    for group in range(count):
        for index in range(size):
            picture, mask = draw(np.random.default_rng((seed, group, index)), side, kind=group % 3)
            for parent, pixels in ((images, picture[..., ::-1]), (masks, mask)):
                path = parent / f"group{group:03d}" / f"{index:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    return images, masks
