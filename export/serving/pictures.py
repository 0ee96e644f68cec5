"""Pictures as a server takes them, maps as it gives them."""

import io
import os

import numpy as np
from PIL import ExifTags, Image

from keras_recnet.imaging.reading import MAX_PIXELS, read
from keras_recnet.imaging.writing import png

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# What TensorFlow's decoders read as Pillow does. CMYK has a colour profile, transparency and 16-bit grey our rules.
_PLAIN_MODES = frozenset(("RGB", "L", "P", "1"))
# A JPEG goes as a JPEG again: as PNG it would be four times as large. At this quality, and with the colours at full
# resolution, the maps of the photographs in examples/ change by 0.3/255 on average, and by 1/255 at most.
_QUALITY = {"quality": 95, "subsampling": 0}


def to_send(source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> bytes:
    """The bytes of a JPEG or PNG file that a server decodes to the picture that `keras_recnet.imaging.reading` reads.

    A server's decoders read JPEG and PNG alone and ignore the EXIF rotation. So

    - an opaque JPEG or PNG of 8 bits that needs no turn goes as it is, byte for byte, and is not decoded here;
    - a JPEG that needs a turn, or is CMYK, goes upright and in RGB as JPEG of quality 95;
    - everything else goes upright, over white, of 16 bits the upper 8, as PNG.

    A JPEG or PNG that is damaged behind its header goes as it is: the server says so.

    Args:
        source: a path, the bytes of a file, a `PIL.Image.Image` or an array, as `keras_recnet.imaging.reading.read`
            takes it.
        max_pixels: a picture with more is refused if it has to be decoded here. The server has a limit of its own.
        name: what messages call it; by default the path.

    Raises:
        ImageError: if it cannot be read or is refused.
        MissingExtraError: if it is a HEIC picture and pillow-heif is not installed.
    """
    data = _bytes_of(source)
    if data is None:
        return png(read(source, max_pixels=max_pixels, name=name).rgb)
    if not data.startswith((_JPEG, _PNG)):
        return png(read(data, max_pixels=max_pixels, name=name or _path(source)).rgb)
    if _goes_as_it_is(data):
        return data
    rgb = read(data, max_pixels=max_pixels, name=name or _path(source)).rgb
    return _jpeg(rgb) if data.startswith(_JPEG) else png(rgb)


def to_map(file: bytes) -> np.ndarray:
    """The map in a PNG file with 8 bits grey, float32 `(H, W)` in 0…1."""
    with Image.open(io.BytesIO(file), formats=("PNG",)) as image:
        return np.asarray(image, np.float32) / 255.0


def _bytes_of(source):
    """The file's bytes; None for what is decoded already, and for a path that `read` shall complain of."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, os.PathLike)):
        try:
            with open(source, "rb") as file:
                return file.read()
        except OSError:
            return None
    return None


def _path(source):
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _goes_as_it_is(data):
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except Exception:  # decoders meet broken files with exceptions of every kind; `read` says what this one is
        return False
    with image:
        if image.mode not in _PLAIN_MODES or image.has_transparency_data:
            return False
        if image.format == "PNG" and b"eXIf" not in data:
            return True  # it may stand behind the pixels, which Pillow would decode to look for it
        try:
            return image.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
        except Exception:  # EXIF that cannot be parsed says nothing about the orientation
            return True


def _jpeg(rgb):
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", **_QUALITY)
    return file.getvalue()
