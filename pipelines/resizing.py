"""The one resize of this library: bilinear with antialiasing."""

import numpy as np
from PIL import Image


def resize(
    array: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
) -> np.ndarray:
    """Resizes by Pillow's `BILINEAR` (a triangle filter that widens when it shrinks, so that nothing aliases).

    Args:
        array: `(height, width)`, `(height, width, 3)` or `(height, width, 4)` uint8.
        size: `(height, width)` of the result.
        box: `(left, top, right, bottom)` of the part to take, in parts of the sides; pixels may be cut.

    Returns:
        uint8 array of the new size.
    """
    height, width = array.shape[:2]
    # RGBX, not RGBA: Pillow weights the colours of RGBA by alpha, and here the fourth channel is a mask.
    if array.ndim == 3 and array.shape[2] == 3:
        image = Image.fromarray(array)
    else:
        mode = "L" if array.ndim == 2 else "RGBX"
        image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(array), "raw", mode, 0, 1)
    left, top, right, bottom = box
    # Rounding must not push the box over the edge by a billionth: Pillow refuses it.
    box = (left * width, top * height, min(right * width, width), min(bottom * height, height))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))
