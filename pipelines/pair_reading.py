"""One file -> one array: decoding, EXIF rotation, and the many kinds of masks.

Pillow decodes, because OpenCV returns a truncated JPEG as a picture that is grey from the middle on, without an error.
"""

from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_recnet.pipelines.pairs import Pair, PipelineDataError

# Formats that Pillow decodes by itself; it would hand others (EPS, for one) to outside programs.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# Loads their plugins now: threads that open the first files would all begin to.
Image.init()

ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDES_SWAPPED = frozenset((5, 6, 7, 8))
# A mask whose brightest of three and more levels is darker than this holds class numbers, not grey.
LABEL_LEVELS = 16


def read_image(path: str | Path, at_least: int | None = None) -> np.ndarray:
    """Reads a photograph: `(height, width, 3)` uint8 RGB, turned upright by its EXIF orientation.

    Grey and 16-bit pictures become RGB in 0…255, transparency is laid on white, CMYK is converted.

    Args:
        path: the file.
        at_least: a large JPEG may be decoded at 1/2, 1/4 or 1/8, as long as both sides keep this many pixels, which
            is several times faster. None decodes it whole.

    Raises:
        PipelineDataError: when the file is missing, empty, damaged, not a picture or too large.
    """
    with opened(path) as file:
        return np.asarray(_image(file, orientation_of(file), at_least))


def read_pair(pair: Pair, at_least: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image and its mask as they belong together.

    The mask may be 0/1, 0/255, grey, RGB, palette or 16-bit, and may carry its shape in its transparency; two levels
    of which one is 0 become 0 and 255. It must have the image's proportions (a pixel of rounding is allowed), not its
    size. A mask that fits only the image as stored, before the EXIF rotation, is rotated with it; where both fit (a
    square, a half turn) the mask is taken to be drawn on the upright image, as annotation programs show it.

    Args:
        pair: the two files; where there is no mask, the mask is 0 everywhere.
        at_least: as in `read_image`.

    Returns:
        `(image, mask)`: `(height, width, 3)` uint8 RGB and `(mask height, mask width)` uint8, 0…255.

    Raises:
        PipelineDataError: with all that is wrong with the two files.
    """
    problems = []
    try:
        with opened(pair.image) as file:
            orientation, stored = orientation_of(file), file.size
            image = np.asarray(_image(file, orientation, at_least))
    except PipelineDataError as error:
        problems += error.problems
    if pair.mask is not None:
        try:
            with opened(pair.mask) as file:
                mask_orientation = orientation_of(file)
                mask = _mask_values(_upright(file, mask_orientation), pair.mask)
        except PipelineDataError as error:
            problems += error.problems
    if problems:
        raise PipelineDataError(problems)
    if pair.mask is None:
        return image, np.zeros(image.shape[:2], np.uint8)

    size = stored[::-1] if orientation in SIDES_SWAPPED else stored
    mask_size = mask.shape[::-1]
    if not same_proportions(mask_size, size):
        if mask_orientation != 1 or not same_proportions(mask_size, stored):
            raise PipelineDataError([size_problem(pair, mask_size, size)])
        mask = np.asarray(Image.fromarray(mask).transpose(TURNS[orientation]))
    return image, mask


@contextmanager
def opened(path):
    """An open Pillow image; whatever goes wrong until it is closed becomes a `PipelineDataError` naming the file."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            yield file
    except PipelineDataError:
        raise
    except FileNotFoundError:
        raise PipelineDataError([f"{path}: no such file"]) from None
    except UnidentifiedImageError:
        kind = "not a picture" if Path(path).stat().st_size else "empty file"
        raise PipelineDataError([f"{path}: {kind}"]) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PipelineDataError([f"{path}: too many pixels ({error})"]) from None
    except Exception as error:  # Decoders meet damaged files with exceptions of every kind.
        raise PipelineDataError([f"{path}: cannot be decoded ({error})"]) from None


def orientation_of(file):
    """EXIF orientation 1…8 of an open file, 1 if it tells none."""
    # Pillow turns a TIFF upright by itself.
    if file.format == "TIFF":
        return 1
    try:
        found = file.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # EXIF data that cannot be parsed say nothing; a damaged picture is found when it is decoded.
        return 1
    return found if found in TURNS else 1


def same_proportions(size, other):
    """Whether two (width, height) are one shape, up to a pixel of rounding of the smaller one."""
    (width, height), (other_width, other_height) = sorted((size, other))
    return (
        abs(width - height * other_width / other_height) <= 1 or abs(height - width * other_height / other_width) <= 1
    )


def size_problem(pair, mask_size, image_size):
    return (
        f"{pair.mask}: {mask_size[0]}×{mask_size[1]} pixels do not have the proportions of the image {pair.image}, "
        f"{image_size[0]}×{image_size[1]}"
    )


def _image(file, orientation, at_least):
    if at_least is not None:
        file.draft(None, (at_least, at_least))
    return _to_rgb(_upright(file, orientation))


def _upright(file, orientation):
    file.load()
    return file.transpose(TURNS[orientation]) if orientation in TURNS else file


def _to_rgb(image):
    if image.mode[0] in "IF":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(values):
    """Grey values of 16 bits, or of floating point in 0…1 or 0…255, as uint8."""
    low, high = float(values.min()), float(values.max())
    factor = (255.0 if high <= 1 else 1.0) if values.dtype.kind == "f" else 1 / 256
    if not (low >= 0 and high * factor < 256):
        raise ValueError(f"grey values of no known range, {low:g}…{high:g}; save it with 8 or 16 bits a channel")
    return np.floor(values * factor).astype(np.uint8)


def _mask_values(mask, path):
    """`(height, width)` uint8 in 0…255 from a mask of any mode."""
    if mask.mode[0] in "IF":
        values = np.asarray(mask)
        # A mask of 0/1 or 0…255 may be stored with 16 bits all the same.
        small = values.dtype.kind != "f" and values.min() >= 0 and values.max() <= 255
        grey = values.astype(np.uint8) if small else _to_8_bits(values)
    elif mask.has_transparency_data:
        rgba = mask.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        grey = np.asarray(rgba.convert("RGB").convert("L"))
        # A cut-out shape has one colour everywhere; elsewhere what is transparent is background.
        grey = alpha if grey.min() == grey.max() else cv2.multiply(grey, alpha, scale=1 / 255)
    else:
        if mask.mode not in ("1", "L") and _is_coloured(np.asarray(mask.convert("RGB"))):
            raise PipelineDataError([f"{path}: a colour picture, not a mask (are images and masks swapped?)"])
        grey = np.asarray(mask.convert("L"))

    levels = np.flatnonzero(np.bincount(grey.ravel(), minlength=256))
    if list(levels) == [1] or (len(levels) == 2 and levels[0] == 0):
        return np.where(grey > 0, np.uint8(255), np.uint8(0))
    if len(levels) > 2 and levels[-1] < LABEL_LEVELS:
        raise PipelineDataError([f"{path}: holds label numbers 0…{levels[-1]}, not a mask of 0 and 255"])
    return grey


def _is_coloured(rgb):
    """Whether `(height, width, 3)` is a colour picture, not a mask in RGB or with a palette."""
    spread = rgb.max(axis=-1) - rgb.min(axis=-1)
    # JPEG leaves traces of colour in a grey mask, and black with one other colour is a mask all the same.
    if (spread > 48).mean() <= 0.01:
        return False
    found = np.unique(rgb.reshape(-1, 3), axis=0)
    return len(found) > 2 or (len(found) == 2 and bool(found[0].any()))
