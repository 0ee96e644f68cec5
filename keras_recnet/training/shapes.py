"""Pictures of shapes with their masks: data for trying out a training where there is none."""

import os
from pathlib import Path

import cv2
import numpy as np


def draw(rng: np.random.Generator, side: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """One picture: a bright ellipse, rectangle or triangle on coloured noise.

    Args:
        rng: decides everything.
        side: height and width in pixels.

    Returns:
        Picture `(side, side, 3)` uint8 and mask `(side, side)` uint8, 0 or 255.
    """
    coarse = rng.uniform(0, 140, (4, 4, 3)).astype("float32")
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((side, side), np.uint8)
    centre = rng.uniform(0.35, 0.65, 2) * side
    radii = rng.uniform(0.15, 0.3, 2) * side
    kind = rng.integers(3)
    if kind == 0:
        cv2.ellipse(mask, (centre.tolist(), (2 * radii).tolist(), float(rng.uniform(0, 180))), 255, -1)
    else:
        angles = rng.uniform(0, 2 * np.pi) + np.arange(5 - kind) * 2 * np.pi / (5 - kind)
        corners = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], 255)
    picture = np.where(mask[..., None] > 0, rng.uniform(150, 255, 3), picture) + rng.normal(0, 8, picture.shape)
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
