"""Encode images for a server, and decode the maps it returns."""

import io
import os

import numpy as np
from PIL import Image

from keras_recnet.errors import ImageError
from keras_recnet.imaging.reading import MAX_PIXELS, open_image, read, turn_of
from keras_recnet.imaging.writing import encode

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Modes that TensorFlow decodes as Pillow does. CMYK has a color profile; transparency and 16-bit gray follow our rules.
_PLAIN_MODES = frozenset(("RGB", "L", "P", "1"))
# Names of the chunks of a PNG that can hold its orientation. A PNG without them need not be decoded.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
# A JPEG is sent as JPEG again: as PNG it would be four times as large. At this quality, and with the colors at full
# resolution, the maps of the photos in examples/ change by 0.3/255 on average, and by at most 1/255.
_QUALITY = {"quality": 95, "subsampling": 0}


def encode_image(source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> bytes:
    """Return a JPEG or PNG file that a server decodes to the image that `keras_recnet.imaging.reading.read` returns.

    A server decodes only JPEG and PNG and ignores the EXIF orientation. Therefore

    - an opaque, upright JPEG or PNG with 8 bits is returned unchanged, without decoding it;
    - a JPEG that is not upright, or is CMYK, is turned, converted to RGB and encoded as JPEG with quality 95;
    - everything else is turned, composited on white, cut to the upper 8 bits and encoded as PNG.

    A JPEG or PNG that is damaged after its header is returned unchanged: the server reports the error.

    Args:
        source: a path, the bytes of a file, a `PIL.Image.Image` or an array, as accepted by
            `keras_recnet.imaging.reading.read`.
        max_pixels: images with more pixels are refused if they must be decoded here. The server has its own limit.
        name: name of the image in error messages; by default the path.

    Raises:
        ImageError: if the image cannot be read or is refused.
        MissingExtraError: if the image is a HEIC file and pillow-heif is not installed.
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        try:
            with open(source, "rb") as file:
                source = file.read()
        except OSError:
            pass  # `read` raises the error
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = bytes(source)
        if _is_plain(source):
            return source
    rgb = read(source, max_pixels=max_pixels, name=name).rgb
    if isinstance(source, bytes) and source.startswith(_JPEG):
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, "JPEG", **_QUALITY)
        return file.getvalue()
    return encode(rgb)


def decode_map(file: bytes) -> np.ndarray:
    """Decode a map: an 8-bit gray PNG file to float32 `(H, W)` in 0…1."""
    with Image.open(io.BytesIO(file), formats=("PNG",)) as image:
        return np.asarray(image, np.float32) / 255.0


def _is_plain(data):
    """Return whether a server decodes a file as `read` does."""
    if not data.startswith((_JPEG, _PNG)):
        return False
    try:
        with open_image(data) as image:
            if image.mode not in _PLAIN_MODES or image.has_transparency_data:
                return False
            if image.format == "PNG":
                if not any(marker in data for marker in _PNG_ORIENTATION):
                    return True
                image.load()  # the orientation may come after the pixels
            return turn_of(image) is None
    except ImageError:
        return False
