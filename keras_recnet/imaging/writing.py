"""Encode images and write them to files atomically."""

import io
import os
import sys

import numpy as np
from PIL import Image

from keras_recnet.files import atomic_path

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS = {
    # zlib's highest level that takes no more time than writing the larger file of a lower level
    "PNG": {"compress_level": 3},
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True},
}


def encode(array: np.ndarray, path: str | os.PathLike = "", *, profile: bytes | None = None) -> bytes:
    """Encode an image in the format that the suffix of `path` names, by default PNG.

    Args:
        array: uint8 `(H, W)` grey, `(H, W, 3)` RGB or, except in JPEG, `(H, W, 4)` RGBA.
        path: the file to write.
        profile: ICC profile of the colours, or None.
    """
    format = FORMATS.get(os.path.splitext(path)[1].lower(), "PNG")
    file = io.BytesIO()
    Image.fromarray(array).save(file, format, icc_profile=profile, **OPTIONS[format])
    return file.getvalue()


def write(data: bytes, path: str | os.PathLike) -> None:
    """Write a file atomically, or to standard output if `path` is `"-"`.

    Raises:
        DiskError: if the disk is full or the folder is not writable.
    """
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
