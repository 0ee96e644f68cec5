"""Contact sheet: one image of a whole group, with each photo next to its map."""

import cv2
import numpy as np

from keras_recnet.imaging.drawing import to_8_bits
from keras_recnet.imaging.resizing import resize

LARGEST_CELL, SMALLEST_CELL = 224, 24
MOST_PIXELS = 8_000_000  # in a sheet, unless its cells already have the smallest size
GAP, BETWEEN_PAIRS = 4, 16
BACKGROUND = 238  # gray
ASPECT = 1.4  # approximate width : height of a sheet of square photos


class Sheet:
    """Pairs of a photo and its map, row by row. Several threads may fill the sheet.

    Large groups have smaller cells, so that the sheet does not become too large to open.

    Args:
        sizes: `(height, width)` of each photo of the group.

    Attributes:
        pixels: the sheet, uint8 `(H, W, 3)`.
    """

    def __init__(self, sizes: list[tuple[int, int]]):
        count = len(sizes)
        columns = min(count, max(1, round((count * ASPECT / 2) ** 0.5)))
        cells = 2 * columns * -(-count // columns)
        self._cell = int(np.clip((MOST_PIXELS / cells) ** 0.5 - BETWEEN_PAIRS, SMALLEST_CELL, LARGEST_CELL))
        self._sizes = [self._cell_size(*size) for size in sizes]
        self._places, top = [], BETWEEN_PAIRS
        for start in range(0, count, columns):
            row = self._sizes[start : start + columns]
            tallest = max(height for height, _ in row)
            for column, (height, width) in enumerate(row):
                left = BETWEEN_PAIRS + column * (2 * self._cell + GAP + BETWEEN_PAIRS)
                # aligned to the middle of the pair, so that a tall photo is close to its map
                self._places.append((top + (tallest - height) // 2, left + self._cell - width))
            top += tallest + BETWEEN_PAIRS
        width = BETWEEN_PAIRS + columns * (2 * self._cell + GAP + BETWEEN_PAIRS)
        self.pixels = np.full((top, width, 3), BACKGROUND, np.uint8)

    def put(self, place: int, rgb: np.ndarray, saliency_map: np.ndarray) -> None:
        """Draw a photo and its map.

        Args:
            place: the photo's index in `sizes`.
            rgb: uint8 `(h, w, 3)` of any size, such as the input of the network; drawn in the photo's proportions.
            saliency_map: float32 `(H, W)` in 0…1.
        """
        (height, width), (top, left) = self._sizes[place], self._places[place]
        drawn = cv2.cvtColor(to_8_bits(saliency_map), cv2.COLOR_GRAY2RGB)
        for image, start in ((rgb, left), (drawn, left + width + GAP)):
            self.pixels[top : top + height, start : start + width] = resize(image, (height, width))

    def _cell_size(self, height, width):
        scale = self._cell / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))
