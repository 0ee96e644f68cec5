"""A sheet: one picture of a whole group, each photograph beside its map."""

import cv2
import numpy as np

from keras_recnet.imaging.drawing import to_8_bits

LARGEST_CELL, SMALLEST_CELL = 224, 24
MOST_PIXELS = 8_000_000  # of a sheet, as long as its cells are not the smallest
GAP = 6
GROUND = 238
ASPECT = 1.4  # width : height that a sheet comes near to


class Sheet:
    """Photographs and their maps in pairs, row by row, as they come; cells may be filled from several threads.

    The cells of large groups are smaller, so that a sheet keeps a size that can be opened.

    Args:
        count: of the photographs.
    """

    def __init__(self, count: int):
        self.columns = min(count, max(1, round((count * ASPECT / 2) ** 0.5)))
        rows = -(-count // self.columns)
        cells = 2 * self.columns * rows
        self.cell = int(np.clip((MOST_PIXELS / cells) ** 0.5 - GAP, SMALLEST_CELL, LARGEST_CELL))
        self._pair = 2 * self.cell + 2 * GAP
        height, width = rows * (self.cell + GAP) + GAP, self.columns * self._pair + GAP
        self.pixels = np.full((height, width, 3), GROUND, np.uint8)

    def put(self, place: int, rgb: np.ndarray, saliency_map: np.ndarray) -> None:
        """Draws a photograph and its map, each as large as its cell lets it be.

        Args:
            place: number of the pair, from 0.
            rgb: uint8 `(h, w, 3)`; shown in the map's proportions, so it may be the square that the network sees.
            saliency_map: float32 `(H, W)` in 0…1, at the photograph's own size.
        """
        height, width = saliency_map.shape
        scale = self.cell / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        row, column = divmod(place, self.columns)
        top = GAP + row * (self.cell + GAP) + (self.cell - size[1]) // 2
        left = GAP + column * self._pair + (self.cell - size[0]) // 2
        grey = cv2.resize(to_8_bits(saliency_map), size, interpolation=cv2.INTER_AREA)
        for offset, drawn in ((0, cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)), (self.cell + GAP, grey)):
            cell = self.pixels[top : top + size[1], left + offset : left + offset + size[0]]
            cell[:] = drawn if drawn.ndim == 3 else drawn[..., None]
