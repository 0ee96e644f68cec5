"""One file -> one array: decoding, EXIF rotation, kinds of masks, and the check of all files before a training.

Pillow decodes, because OpenCV returns a truncated JPEG as a picture that is grey from the middle on, without an error.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
from keras_recnet.pipelines.pairs import PipelineDataError
from PIL import Image, UnidentifiedImageError

# Formats that Pillow decodes by itself; it would hand others (EPS, for one) to outside programs.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# Loads their plugins now: threads that open the first files would all begin to.
Image.init()
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDES_SWAPPED = frozenset((5, 6, 7, 8))
LABEL_LEVELS = 16


def read_image(path):
    """Reads a photograph: `(height, width, 3)` uint8 RGB, turned upright by its EXIF orientation.

    Grey and 16-bit pictures become RGB in 0…255, transparency is laid on white, CMYK is converted.

    Raises:
        PipelineDataError: when the file is missing, empty, damaged, not a picture or too large.
    """
    with _opened(path) as image:
        return np.asarray(_to_rgb(_upright(image, _orientation(image))))


def read_pair(pair):
    """Reads an image and its mask as they belong together.

    The mask may be 0/1, 0/255, grey, RGB, palette or 16-bit, and may carry its shape in its transparency. It must have
    the image's proportions (one pixel of rounding is allowed), not its size. A mask that fits only the image as
    stored, before the EXIF rotation, is rotated with it; where both fit (a square, a half turn) the mask is taken to
    be drawn on the upright image, as annotation programs show it.

    Args:
        pair: a `Pair`.

    Returns:
        `(image, mask)`: `(height, width, 3)` uint8 RGB and `(mask height, mask width)` uint8, 0…255.

    Raises:
        PipelineDataError: with all that is wrong with the two files.
    """
    problems = []
    image = mask = None
    orientation, stored = 1, None
    try:
        with _opened(pair.image) as file:
            orientation, stored = _orientation(file), file.size
            image = _to_rgb(_upright(file, orientation))
    except PipelineDataError as error:
        problems += error.problems
    try:
        with _opened(pair.mask) as file:
            mask = _upright(file, _orientation(file))
            values = _mask_values(mask, pair.mask)
    except PipelineDataError as error:
        problems += error.problems
    if problems:
        raise PipelineDataError(problems)
    if not _same_proportions(mask.size, image.size):
        if not (orientation in SIDES_SWAPPED and _same_proportions(mask.size, stored)):
            raise PipelineDataError([_size_problem(pair, mask.size, image.size)])
        values = np.asarray(Image.fromarray(values).transpose(UPRIGHT[orientation]))
    return np.asarray(image), values


def check_pairs(pairs, *, decode=False, workers=2, progress=None):
    """Finds every faulty file before a training starts.

    Always looks at each file's existence, kind and size; with `decode=True` also reads every pixel, which finds
    damaged files and wrong kinds of masks and takes milliseconds a pair (filling the memory cache does the same).

    Args:
        pairs: sequence of `Pair`.
        decode: whether to decode the files.
        workers: number of threads.
        progress: called as `progress(done, total)` after each pair.

    Raises:
        PipelineDataError: with all problems of all pairs.
    """
    check = (lambda pair: read_pair(pair) and None) if decode else _check_headers
    for_all(check, pairs, workers, progress)


def for_all(function, pairs, workers, progress=None):
    """Calls `function(pair)` in threads and raises all their problems at once.

    Threads do, since Pillow releases the interpreter while it decodes and resizes.
    """

    def problems_of(pair):
        try:
            function(pair)
        except PipelineDataError as error:
            return error.problems
        return []

    problems = []
    pool = ThreadPoolExecutor(workers)
    try:
        for done, found in enumerate(pool.map(problems_of, pairs), start=1):
            problems += found
            if progress is not None:
                progress(done, len(pairs))
    finally:
        # Without this, Ctrl-C would wait for all files that are still queued.
        pool.shutdown(cancel_futures=True)
    if problems:
        raise PipelineDataError(problems)


def _check_headers(pair):
    problems, sizes = [], []
    for path in (pair.image, pair.mask):
        try:
            with _opened(path) as file:
                # A PNG tells its orientation only after decoding, so here both ways round are let through.
                orientation = 6 if file.format == "PNG" and path == pair.image else _orientation(file)
                sizes.append({file.size, file.size[::-1]} if orientation in SIDES_SWAPPED else {file.size})
        except PipelineDataError as error:
            problems += error.problems
    if problems:
        raise PipelineDataError(problems)
    if not any(_same_proportions(mask, image) for mask in sizes[1] for image in sizes[0]):
        raise PipelineDataError([_size_problem(pair, min(sizes[1]), min(sizes[0]))])


@contextmanager
def _opened(path):
    """An open Pillow image; whatever goes wrong until it is closed becomes a `PipelineDataError` naming the file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except PipelineDataError:
        raise
    except FileNotFoundError:
        raise PipelineDataError([f"{path}: file not found"]) from None
    except UnidentifiedImageError:
        kind = "empty file" if path.stat().st_size == 0 else "not a picture"
        raise PipelineDataError([f"{path}: {kind}"]) from None
    except Image.DecompressionBombError as error:
        raise PipelineDataError([f"{path}: too large ({error})"]) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, …
        raise PipelineDataError([f"{path}: cannot be decoded ({error})"]) from None


def _orientation(image):
    # TIFF and PNG: reading the tag decodes a PNG first, and Pillow turns a TIFF upright by itself.
    if image.format == "TIFF":
        return 1
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # Broken EXIF data: every viewer shows such a picture as stored.
        return 1


def _upright(image, orientation):
    image.load()
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _to_rgb(image):
    if image.mode[0] in "IF":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(values):
    """Values of a 16-bit (0…65535) or floating point (0…1 or 0…255) picture as uint8."""
    values = np.nan_to_num(values.astype(np.float32))
    if values.max(initial=0) > 255:
        values = values / 257
    elif values.dtype.kind == "f" and values.max(initial=0) <= 1:
        values = values * 255
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _mask_values(mask, path):
    """`(height, width)` uint8 in 0…255 from a mask of any mode."""
    if mask.mode[0] in "IF":
        grey = _to_8_bits(np.asarray(mask))
    elif mask.has_transparency_data:
        *colours, alpha = mask.convert("RGBA").split()
        grey, alpha = np.asarray(Image.merge("RGB", colours).convert("L")), np.asarray(alpha)
        # A cut-out shape has one colour everywhere; elsewhere what is transparent is background.
        grey = alpha if grey.min() == grey.max() else cv2.multiply(grey, alpha, scale=1 / 255)
    elif mask.mode in ("L", "1"):
        grey = np.asarray(mask.convert("L"))
    else:
        colours = np.asarray(mask.convert("RGB"))
        grey = np.asarray(mask.convert("L"))
        if _coloured(colours):
            raise PipelineDataError([f"{path}: a colour picture, not a mask (are images and masks swapped?)"])
    levels = np.flatnonzero(np.bincount(grey.ravel(), minlength=256))
    if list(levels) == [1] or (len(levels) == 2 and levels[0] == 0):
        return np.where(grey > 0, np.uint8(255), np.uint8(0))
    if len(levels) > 2 and levels[-1] < LABEL_LEVELS:
        raise PipelineDataError([f"{path}: holds label numbers 0…{levels[-1]}, not a mask of 0 and 255"])
    return grey


def _coloured(colours):
    """Whether `(height, width, 3)` is a colour picture rather than a mask in RGB or with a palette."""
    spread = colours.max(axis=-1) - colours.min(axis=-1)
    # JPEG leaves traces of colour in a grey mask, and black with one other colour is a mask all the same.
    if (spread > 48).mean() <= 0.01:
        return False
    found = np.unique(colours.reshape(-1, 3), axis=0)
    return len(found) > 2 or (len(found) == 2 and found[0].any())


def _same_proportions(size, other):
    """Whether two (width, height) are one shape up to a pixel of rounding of the smaller one."""
    (w, h), (W, H) = sorted((size, other))
    return abs(w - h * W / H) <= 1 or abs(h - w * H / W) <= 1


def _size_problem(pair, mask, image):
    return (
        f"{pair.mask}: {mask[0]}×{mask[1]} pixels do not fit the {image[0]}×{image[1]} of its image {pair.image}; "
        "same proportions are needed"
    )
