"""Encode images and write them to files atomically."""

import io
import math
import os
import sys

import numpy as np
from PIL import Image, PngImagePlugin

from keras_recnet.errors import ImageError
from keras_recnet.files import atomic_path, is_device

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS = {
    # the highest zlib level that takes no longer to compress and write than a lower one
    "PNG": {"compress_level": 3},
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True},
}
LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
SOFTWARE = "keras_recnet"  # identifies PNG files written by this library


def encode(array: np.ndarray, path: str | os.PathLike = "", *, profile: bytes | None = None) -> bytes:
    """Encode an image in the format given by the suffix of `path`, by default PNG.

    Args:
        array: uint8 `(H, W)` gray, `(H, W, 3)` RGB or, except in JPEG, `(H, W, 4)` RGBA.
        path: the output file, of which only the suffix is used.
        profile: ICC profile of the colors, or None.

    Raises:
        ImageError: if the image is too large for the format.
    """
    format = FORMATS.get(os.path.splitext(path)[1].lower(), "PNG")
    height, width = array.shape[:2]
    if max(height, width) > LARGEST_SIDE.get(format, math.inf):
        raise ImageError(
            f"{os.fspath(path)}: {width} × {height} pixels are too many for {format}, which has at most "
            f"{LARGEST_SIDE[format]} per side. Choose .png."
        )
    file = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", SOFTWARE)
    Image.fromarray(array).save(file, format, icc_profile=profile, pnginfo=text, **OPTIONS[format])
    return file.getvalue()


def is_own_output(path: str | os.PathLike) -> bool:
    """Return whether a file is a PNG written by `encode`."""
    if is_device(path):
        return False
    signature = f"Software\0{SOFTWARE}".encode()
    try:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                return False
            while len(header := file.read(8)) == 8 and header[4:] != b"IDAT":
                length = int.from_bytes(header[:4])
                start = file.read(min(length, len(signature)))
                if header[4:] == b"tEXt" and start == signature and length == len(signature):
                    return True
                file.seek(length - len(start) + 4, os.SEEK_CUR)  # 4 bytes of checksum
    except OSError:  # reported when the image is read
        pass
    return False


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
