"""Sample sheets: image, mask and map side by side, for the same images after every epoch."""

import os

import numpy as np

from keras_recnet.files import atomic_path

CELL = 160
GAP = 4


def choose(count: int, total: int) -> list[int]:
    """Return `count` evenly spaced indices below `total`."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def draw(images: np.ndarray, masks: np.ndarray, maps: np.ndarray, path: str | os.PathLike) -> None:
    """Write a sample sheet as a PNG file.

    Args:
        images: `(count, height, width, 3)`, RGB 0…255.
        masks: `(count, height, width, 1)`, 0…1.
        maps: `(count, height, width, 1)`, 0…1.
        path: path of the file.
    """
    import cv2

    rows = []
    for image, mask, saliency in zip(images, masks, maps, strict=True):
        cells = [image, np.repeat(255.0 * mask, 3, axis=-1), np.repeat(255.0 * saliency, 3, axis=-1)]
        small = [
            cv2.resize(cell.clip(0, 255).astype(np.uint8), (CELL, CELL), interpolation=cv2.INTER_AREA) for cell in cells
        ]
        rows.append(
            np.concatenate([np.pad(cell, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=90) for cell in small], axis=1)
        )
    half = (len(rows) + 1) // 2
    if len(rows) % 2:
        rows.append(np.full_like(rows[0], 90))
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), sheet[..., ::-1]):
            raise OSError(f"{path}: the sample sheet could not be written.")
