"""The one way this library resizes: bilinear with antialiasing, in training, prediction and the exports."""

import numpy as np
from PIL import Image


def resize(
    array: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resize an image with Pillow's `BILINEAR`: a triangle filter that is widened to avoid aliasing when shrinking.

    Args:
        array: uint8 `(H, W)`, `(H, W, 3)` or `(H, W, 4)`. A fourth channel is resized like the others, not as alpha.
        size: `(height, width)` of the result.
        box: `(left, top, right, bottom)` of a crop in fractions of the sides; its edges may be between pixels.
            None resizes the whole image.

    Returns:
        uint8 array of the new size; `array` itself if it already has this size.
    """
    height, width = array.shape[:2]
    if box is None:
        if (height, width) == tuple(size):
            return array
        box = (0.0, 0.0, 1.0, 1.0)
    # RGBX, not RGBA: Pillow weights the colors of RGBA by alpha, and here the fourth channel is a mask.
    if array.ndim == 3 and array.shape[2] == 4:
        image = Image.frombuffer("RGBX", (width, height), np.ascontiguousarray(array), "raw", "RGBX", 0, 1)
    else:
        image = Image.fromarray(array)
    left, top, right, bottom = box
    # A rounding error must not push the box over the edge: Pillow would refuse such a box.
    box = (left * width, top * height, min(right * width, width), min(bottom * height, height))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def resize_map(saliency_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map, float32 `(h, w)`, to `size` = `(height, width)`; values are clipped to 0…1."""
    height, width = saliency_map.shape
    saliency_map = np.clip(saliency_map, 0.0, 1.0)
    if size[0] >= height and size[1] >= width:
        import cv2  # matches Pillow within 1e-6 where nothing shrinks, and is ten times as fast

        return cv2.resize(saliency_map, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(np.asarray(Image.fromarray(saliency_map).resize(size[::-1], Image.Resampling.BILINEAR)), 0.0, 1.0)
