"""Sheets of images: samples with their maps after every epoch, and previews of training batches."""

import os
from dataclasses import dataclass

import numpy as np

from keras_recnet.imaging.writing import encode, write

CELL = 160
GAP = 4


GREEN, BLUE, RED, ORANGE = (40, 160, 60), (40, 100, 220), (220, 40, 40), (240, 150, 30)
LABEL = 160  # width of a row's label


@dataclass(frozen=True)
class Cell:
    """An image of a preview.

    Attributes:
        image: `(height, width, 3)`, RGB 0…255.
        mask: `(height, width, 1)`, 0…1.
        distractor: whether the image is a distractor of its group.
        composite: whether the image is a composite.
    """

    image: np.ndarray
    mask: np.ndarray
    distractor: bool = False
    composite: bool = False

    @property
    def color(self) -> tuple[int, int, int]:
        """RGB color of the frame."""
        if self.distractor:
            return ORANGE if self.composite else RED
        return BLUE if self.composite else GREEN


Row = tuple[str, list[Cell]]  # a label and images


def draw_preview(rows: list[Row], path: str | os.PathLike) -> None:
    """Write a training batch as a PNG file, with a row per group and the masks tinted red.

    Frames are green (images of the group), blue (composites with such an image), red (distractors) or orange
    (composites that are distractors).

    Args:
        rows: the label and the images of each row.
        path: path of the file.
    """
    import cv2

    labels = any(label for label, _ in rows)
    columns = max(len(cells) for _, cells in rows)
    frame, side = 3, CELL + 2 * (3 + GAP)
    left = LABEL if labels else 0
    sheet = np.full((side * len(rows), left + side * columns, 3), 255, np.uint8)
    for y, (label, cells) in enumerate(rows):
        for line, text in enumerate(label[start : start + 15] for start in range(0, min(len(label), 60), 15)):
            place = (GAP, y * side + 24 + 18 * line)
            cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        for x, cell in enumerate(cells):
            tinted = cell.image + 0.5 * cell.mask * (np.array([255.0, 0.0, 0.0]) - cell.image)
            small = cv2.resize(tinted.clip(0, 255).astype(np.uint8), (CELL, CELL), interpolation=cv2.INTER_AREA)
            framed = np.full((CELL + 2 * frame, CELL + 2 * frame, 3), cell.color, np.uint8)
            framed[frame:-frame, frame:-frame] = small
            top, start = y * side + GAP, left + x * side + GAP
            sheet[top : top + len(framed), start : start + len(framed)] = framed
    write(encode(sheet), path)


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
    write(encode(sheet), path)
