"""Small pictures for the report: photograph, mask, map and error of an image, as data to stand inside a page."""

import base64
import io

import numpy as np
from PIL import Image

from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.evaluation.map_files import load, read_map, read_mask
from keras_recnet.imaging.reading import read
from keras_recnet.imaging.resizing import resize_map

SIDE = 220  # of the longer side: sharp at the 150 or so CSS pixels that it is shown at
QUALITY = 80

_GROUND = np.array((22, 24, 28), np.float32)
_OBJECT = np.array((92, 96, 104), np.float32)
_ALARM = np.array((255, 138, 41), np.float32)
_MISS = np.array((72, 149, 255), np.float32)


def pictures(pairs, name: str, methods: list[str]) -> list[tuple[str, str]]:
    """The pictures of one image.

    Args:
        pairs: the files, a `keras_recnet.evaluation.datasets.Pairs`.
        name: of the image.
        methods: whose maps to show.

    Returns:
        (caption, data URI): the photograph (when there is one that can be read), the mask, and a map and an error a
        method.

    Raises:
        ImageError: if the mask or a map cannot be read any more.
    """
    mask = _mask(pairs, name)
    height, width = mask.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    mask = resize_map(mask.astype(np.float32), size)
    shown = [("photograph", uri(photo)) for photo in _photo(pairs, name, size)]
    shown.append(("mask", uri(_grey(mask))))
    for method in methods:
        path = pairs.maps[method][name]
        saliency_map = resize_map(read_map(load(path), str(path))[0].astype(np.float32), size)
        whose = f" of {method}" if len(methods) > 1 else ""
        shown.append((f"map{whose}", uri(_grey(saliency_map))))
        shown.append((f"error{whose}", uri(error(saliency_map, mask))))
    return shown


def error(saliency_map: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What is wrong with a map: orange where it marks the ground, blue where it misses the object.

    Args:
        saliency_map, mask: float `(H, W)` in 0…1.

    Returns:
        uint8 `(H, W, 3)`, the mask dimly behind.
    """
    alarm = np.maximum(saliency_map - mask, 0.0)[..., None]
    miss = np.maximum(mask - saliency_map, 0.0)[..., None]
    drawn = _GROUND + (_OBJECT - _GROUND) * mask[..., None]
    drawn = drawn + (_ALARM - drawn) * alarm
    return np.rint(drawn + (_MISS - drawn) * miss).astype(np.uint8)


def uri(array: np.ndarray) -> str:
    """A JPEG of uint8 `(H, W)` or `(H, W, 3)` as a `data:` URI."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _mask(pairs, name):
    path = pairs.masks[name]
    return read_mask(load(path), str(path))


def _photo(pairs, name, size):
    if name in pairs.images:
        try:
            yield read(pairs.images[name], fit=size).rgb
        except (ImageError, MissingExtraError):  # the numbers do not need it
            return


def _grey(values):
    return np.rint(values * 255).astype(np.uint8)
