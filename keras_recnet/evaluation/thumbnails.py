"""Thumbnails for the report: image, mask, map and error, as data URIs."""

import base64
import io

import numpy as np
from PIL import Image

from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.evaluation.map_files import load, read_map, read_mask
from keras_recnet.imaging.drawing import to_8_bits
from keras_recnet.imaging.reading import read
from keras_recnet.imaging.resizing import resize_map

SIDE = 220  # pixels of the longer side; the report shows about 150 CSS pixels
QUALITY = 80

_BACKGROUND = np.array((22, 24, 28), np.float32)
_OBJECT = np.array((92, 96, 104), np.float32)
_FALSE_POSITIVE = np.array((255, 138, 41), np.float32)
_FALSE_NEGATIVE = np.array((72, 149, 255), np.float32)


def thumbnails(pairs, name: str, methods: list[str]) -> list[tuple[str, str]]:
    """Create the thumbnails of one image.

    Args:
        pairs: the files, a `keras_recnet.evaluation.datasets.Pairs`.
        name: name of the image.
        methods: the methods to show.

    Returns:
        (caption, data URI) of the image (if available and readable), the mask, and the map and error of each method.

    Raises:
        ImageError: if the mask or a map can no longer be read.
    """
    mask = _mask(pairs, name)
    height, width = mask.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    mask = resize_map(mask.astype(np.float32), size)
    result = [("image", uri(image)) for image in _image(pairs, name, size)]
    result.append(("mask", uri(to_8_bits(mask))))
    for method in methods:
        path = pairs.maps[method][name]
        saliency_map = resize_map(read_map(load(path), str(path))[0].astype(np.float32), size)
        suffix = f" of {method}" if len(methods) > 1 else ""
        result.append((f"map{suffix}", uri(to_8_bits(saliency_map))))
        result.append((f"error{suffix}", uri(error(saliency_map, mask))))
    return result


def error(saliency_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the error of a map: false positives in orange, false negatives in blue.

    Args:
        saliency_map, mask: float `(H, W)` in 0…1.

    Returns:
        uint8 `(H, W, 3)`, with the mask in dark gray.
    """
    false_positive = np.maximum(saliency_map - mask, 0.0)[..., None]
    false_negative = np.maximum(mask - saliency_map, 0.0)[..., None]
    drawn = _BACKGROUND + (_OBJECT - _BACKGROUND) * mask[..., None]
    drawn = drawn + (_FALSE_POSITIVE - drawn) * false_positive
    return np.rint(drawn + (_FALSE_NEGATIVE - drawn) * false_negative).astype(np.uint8)


def uri(array: np.ndarray) -> str:
    """Encode uint8 `(H, W)` or `(H, W, 3)` as a JPEG in a `data:` URI."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _mask(pairs, name):
    path = pairs.masks[name]
    return read_mask(load(path), str(path))


def _image(pairs, name, size):
    if name in pairs.images:
        try:
            yield read(pairs.images[name], fit=size).rgb
        except (ImageError, MissingExtraError):  # the scores do not depend on the image
            return
