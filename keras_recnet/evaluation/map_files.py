"""Maps and masks from files: no bit of a map is lost, and what cannot be meant is refused by name."""

import io
import os

import numpy as np
from PIL import Image

from keras_recnet.errors import ImageError
from keras_recnet.imaging.reading import FORMATS, MAX_PIXELS, SUFFIXES

MASK_SUFFIXES = SUFFIXES
MAP_SUFFIXES = SUFFIXES | {".npy"}

# A mask's pixel belongs to the object above this value, as pysodmetrics and the field's scripts have it.
MASK_THRESHOLD = 128

_NPY = b"\x93NUMPY"
_GREY = frozenset(("1", "L"))
_DEEP = frozenset(("I", "I;16", "I;16L", "I;16B", "I;16N", "F"))


def load(path: str | os.PathLike) -> bytes:
    """The bytes of a file.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"{os.fspath(path)}: cannot be read ({error.strerror or error}).") from error


def read_mask(data: bytes, name: str) -> np.ndarray:
    """A mask: which pixels belong to the object.

    Args:
        data: the bytes of a picture; colours become grey.
        name: what messages call it.

    Returns:
        bool `(H, W)`: value above 128 of 255.

    Raises:
        ImageError: if it cannot be decoded, or if it has values other than 0 but none above 128, as a mask saved with 0
            and 1 or with class numbers: taken as it is, it would be an empty mask.
    """
    image = _opened(data, name)
    values = _deep(image, name)[0] * 255 if image.mode in _DEEP else _grey(image)[0]
    mask = values > MASK_THRESHOLD
    if not mask.any() and values.any():
        raise ImageError(
            f"{name}: no pixel is above {MASK_THRESHOLD}, so no object is marked. Save the mask with 0 and 255. "
            f"Received: values in {values.min():g}…{values.max():g}"
        )
    return mask


def read_map(data: bytes, name: str) -> tuple[np.ndarray, list[str]]:
    """A saliency map, at the precision that it was saved with.

    Args:
        data: the bytes of a picture with 8 or 16 bits, of a float TIFF with values in 0…1, or of an `.npy` file.
        name: what messages call it.

    Returns:
        float64 `(H, W)` in 0…1, not stretched, and notes on how it was read: `"16-bit"`, `"float"`, `"rgb"` (three
        equal channels), `"colour"` (channels that differ: their luminance is taken).

    Raises:
        ImageError: if it cannot be decoded, holds a NaN, or has no known range.
    """
    if data.startswith(_NPY):
        return _from_npy(data, name)
    image = _opened(data, name)
    if image.mode in _DEEP:
        return _deep(image, name)
    values, notes = _grey(image)
    return values / 255, notes


def _opened(data, name):
    if not data:
        raise ImageError(f"{name}: the file is empty (0 bytes). Make it again.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"{name}: refused, {image.width} × {image.height} pixels are more than {MAX_PIXELS:,}.")
        image.load()
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture of a known format. Save it as PNG.") from error
    except Exception as error:  # decoders meet broken files with exceptions of every kind
        raise ImageError(f"{name}: truncated or damaged, it cannot be decoded ({error}). Make it again.") from error
    return image


def _grey(image):
    """uint8 `(H, W)` and notes."""
    if image.mode in _GREY:
        return np.asarray(image.convert("L")), []
    if image.mode == "LA":
        return np.asarray(image.getchannel("L")), []
    rgb = np.asarray(image.convert("RGB"))
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return np.ascontiguousarray(rgb[..., 0]), [] if image.mode == "P" else ["rgb"]
    return np.asarray(image.convert("RGB").convert("L")), ["colour"]


def _deep(image, name):
    return _in_range(np.asarray(image), name, integer_top=65535)


def _from_npy(data, name):
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise ImageError(f"{name}: no readable .npy file ({error}). Make it again.") from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "buf":
        raise ImageError(
            f"{name}: must be bool, uint8, uint16 or float in 0…1, of shape (H, W). "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if values.dtype in (bool, np.uint8):
        return values / (1 if values.dtype == bool else 255), []
    return _in_range(values, name, integer_top=65535)


def _in_range(values, name, integer_top):
    is_float = values.dtype.kind == "f"
    if is_float and not np.isfinite(values).all():
        count = values.size - np.count_nonzero(np.isfinite(values))
        raise ImageError(f"{name}: {count} of {values.size} values are NaN or infinite. Make the map again.")
    top = 1 if is_float else integer_top
    if values.min() < 0 or values.max() > top:
        raise ImageError(
            f"{name}: values must lie in 0…{top}. Save it with 8 or 16 bits, or as floats in 0…1. "
            f"Received: {values.dtype} values in {values.min():g}…{values.max():g}"
        )
    return values.astype(np.float64) / top, ["float" if is_float else "16-bit"]
