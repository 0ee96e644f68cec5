"""Read the maps and masks of an evaluation at the precision of their files."""

import io
import os

import numpy as np

from keras_recnet.errors import ImageError
from keras_recnet.imaging.reading import (
    DEEP_MODES,
    SUFFIXES,
    gray_range,
    gray_values,
    object_of_two_values,
    open_image,
    upright,
    without_alpha,
)

MASK_SUFFIXES = SUFFIXES
MAP_SUFFIXES = SUFFIXES | {".npy"}

# Mask pixels above this value belong to the object, as in pysodmetrics and other evaluation code of the field.
MASK_THRESHOLD = 128

_NPY = b"\x93NUMPY"


def load(path: str | os.PathLike) -> bytes:
    """Return the bytes of a file.

    Raises:
        ImageError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"{os.fspath(path)}: cannot be read ({error.strerror or error}).") from error


def read_mask(data: bytes, name: str) -> np.ndarray:
    """Read a ground-truth mask.

    Args:
        data: the bytes of an image. The mask is the alpha channel if that is not constant, else the luminance.
        name: name of the image in error messages.

    Returns:
        bool `(H, W)`: True where the value is above 128 of 255. If all values other than 0 are equal, as in a mask of
        0 and 1, True where they are not 0, as in training.

    Raises:
        ImageError: if the image cannot be decoded, or has several values but none above 128 (class labels, for
            example) and would count as an empty mask.
    """
    with open_image(data, name=name) as file:
        image = upright(file)
        if image.mode in DEEP_MODES:
            values = _scaled(gray_values(image), name)[0] * 255
        else:
            values, _ = _gray(without_alpha(image))
    two_values = object_of_two_values(values)
    if two_values is not None:
        return two_values
    mask = values > MASK_THRESHOLD
    if not mask.any():
        raise ImageError(
            f"{name}: no pixel is above {MASK_THRESHOLD}, so no object is marked. Save the mask with 0 and 255. "
            f"Received: values in {values.min():g}…{values.max():g}"
        )
    return mask


def read_map(data: bytes, name: str) -> tuple[np.ndarray, list[str]]:
    """Read a saliency map at the precision of its file.

    Args:
        data: the bytes of an image with 8 or 16 bits, of a float TIFF with values in 0…1, or of an `.npy` file.
        name: name of the image in error messages.

    Returns:
        float64 `(H, W)` in 0…1, not stretched, and notes on how it was read: `"16-bit"`, `"float"`, `"rgb"` (three
        equal channels), `"color"` (channels that differ: converted to luminance).

    Raises:
        ImageError: if the map cannot be decoded, contains NaN, or has an unknown range.
    """
    if data.startswith(_NPY):
        return _from_npy(data, name)
    with open_image(data, name=name) as file:
        image = upright(file)
        if image.mode in DEEP_MODES:
            return _scaled(gray_values(image), name)
        values, notes = _gray(image)
        return values / 255, notes


def _gray(image):
    """Return uint8 `(H, W)` and notes."""
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L")), []
    rgb = np.asarray(image.convert("RGB"))
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return np.ascontiguousarray(rgb[..., 0]), [] if image.mode == "P" else ["rgb"]
    return np.asarray(image.convert("RGB").convert("L")), ["color"]


def _from_npy(data, name):
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise ImageError(f"{name}: not a readable .npy file ({error}). Save the map again.") from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "buf":
        raise ImageError(
            f"{name}: must be bool, uint8, uint16 or float in 0…1, of shape (H, W). "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if values.dtype in (bool, np.uint8):
        return values / (1 if values.dtype == bool else 255), []
    return _scaled(values, name)


def _scaled(values, name):
    """Return values of more than 8 bits as float64 in 0…1, and notes."""
    is_float = values.dtype.kind == "f"
    if is_float and not np.isfinite(values).all():
        count = values.size - np.count_nonzero(np.isfinite(values))
        raise ImageError(f"{name}: {count} of {values.size} values are NaN or infinite. Save the map again.")
    # Stricter than for photos: a float map in 0…255 is more likely to be a mistake.
    if is_float and (values.min() < 0 or values.max() > 1):
        raise ImageError(
            f"{name}: float values must be in 0…1. Divide them, or save the map with 8 or 16 bits. "
            f"Received: {values.dtype} values in {values.min():g}…{values.max():g}"
        )
    white = gray_range(values, name)
    return values.astype(np.float64) / white, {1: ["float"], 65535: ["16-bit"]}.get(white, [])
