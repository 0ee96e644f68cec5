"""Pictures out: PNG, whole or not at all."""

import io
import os
import sys

import numpy as np
from PIL import Image

from keras_recnet.files import atomic_path

# zlib's level: the highest that costs no more time than writing the larger file of a lower one.
COMPRESSION = 3


def png(array: np.ndarray, *, profile: bytes | None = None) -> bytes:
    """PNG of uint8 `(H, W)` grey, `(H, W, 3)` RGB or `(H, W, 4)` RGBA, with an ICC profile if one is given."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=COMPRESSION, icc_profile=profile)
    return file.getvalue()


def write(data: bytes, path: str | os.PathLike) -> None:
    """Writes a file atomically, or to standard output when `path` is `"-"`.

    Raises:
        DiskError: if the disk is full or the folder cannot be written.
    """
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
