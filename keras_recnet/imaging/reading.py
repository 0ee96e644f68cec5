"""Read images: files, bytes, Pillow images and arrays become upright 8-bit RGB, or raise an error that names the file.

Pillow decodes, because OpenCV fills the missing part of a truncated JPEG with gray and reports no error.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from keras_recnet.errors import ImageError, ImageTooLargeError, MissingExtraError

# Formats whose decoders need nothing but the bytes. Left out: EPS (runs Ghostscript), stubs without a decoder, and
# formats that no camera or image editor writes today. The common ones come first, because Pillow imports the others
# only if no common format matches.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000"),
    *("PSD", "ICO", "DIB", "PCX", "SGI", "QOI", "TGA"),
)
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".psd", ".ico"),
        *(".pcx", ".sgi", ".rgb", ".qoi", ".tga"),
    )
)
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))

# Pillow's own threshold for a possible decompression bomb; 268 MB as RGB.
MAX_PIXELS = 1024**3 // 4 // 3

# Limit in bytes of one PNG text, XMP or ICC chunk, decompressed. Pillow's own is 1 MB, which some intact files exceed.
MAX_PNG_METADATA = 64 * 2**20

# Pillow modes with one channel of more than 8 bits.
DEEP_MODES = frozenset(("I", "I;16", "I;16L", "I;16B", "I;16N", "F"))

_NO_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """A decoded image, upright (EXIF orientation applied).

    Attributes:
        rgb: uint8 `(h, w, 3)`, composited on white where the image is transparent.
        size: `(height, width)` of the full image, even if `rgb` is smaller.
        alpha: uint8 `(h, w)`, the image's transparency, or None.
        profile: the ICC profile of its colors, or None.
        turn: the transposition that made the image upright, or None.
    """

    rgb: np.ndarray
    size: tuple[int, int]
    alpha: np.ndarray | None = None
    profile: bytes | None = None
    turn: Image.Transpose | None = None


def read(source, *, fit=None, at_least=None, max_pixels=MAX_PIXELS, name=None) -> DecodedImage:
    """Read an image.

    These rules hold for every format:

    - only the first frame of an animation and the first page of a TIFF are read;
    - the EXIF orientation is applied;
    - gray becomes RGB with three equal channels;
    - 16-bit values are reduced to their upper 8 bits, not stretched to the range in use;
    - transparent parts are composited on white;
    - CMYK is converted with its embedded color profile, if there is one.

    Args:
        source: a path, the bytes of a file, a `PIL.Image.Image`, or an array: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` in RGB
            or `(H, W, 4)` in RGBA; bool, uint8, uint16, or float in 0…1.
        fit: `(height, width)` to resize the image to (bilinear, antialiased). None keeps its size.
        at_least: a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if both sides keep this many pixels, which
            is several times faster. By default twice the longer side of `fit`; without `fit`, decode in full.
        max_pixels: images with more pixels are refused before they are decoded.
        name: name of the image in error messages; by default the path.

    Raises:
        ImageError: if the image cannot be read or is refused; an `ImageTooLargeError` if it has too many pixels.
        MissingExtraError: if the image is HEIC and pillow-heif is not installed.
    """
    name = name or _name_of(source)
    with open_image(source, max_pixels=max_pixels, name=name) as image:
        size = image.size
        at_least = at_least or (fit and 2 * max(fit))
        # The same minimum for both sides: in some formats, the EXIF orientation is not known yet.
        drafted = at_least and image is not source and image.draft("RGB", (at_least, at_least))
        image.load()
        if not drafted:
            size = image.size  # some decoders apply the orientation themselves
        turn = turn_of(image)
        swapped = turn in SWAPPING
        image, alpha, profile = _to_rgb(image, name)
        if fit:
            image, alpha = image.resize(fit if swapped else fit[::-1], Image.Resampling.BILINEAR), None
        if turn is not None:
            image = image.transpose(turn)
            alpha = alpha and alpha.transpose(turn)
        rgb, alpha = np.asarray(image), alpha and np.asarray(alpha)
    return DecodedImage(rgb, size if swapped else size[::-1], alpha, profile, turn)


@contextlib.contextmanager
def open_image(source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Iterator[Image.Image]:
    """Open an image without decoding it, for code that needs more than `read` returns.

    Args:
        source: as for `read`.
        max_pixels: images with more pixels are refused.
        name: name of the image in error messages; by default the path.

    Yields:
        The Pillow image. Errors raised in the `with` block, such as a decoder's, become an `ImageError` too.

    Raises:
        ImageError: if the image cannot be read or is refused; an `ImageTooLargeError` if it has too many pixels.
        MissingExtraError: if the image is HEIC and pillow-heif is not installed.
    """
    name = name or _name_of(source)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_pillow_settings)
            if isinstance(source, (str, os.PathLike)):
                source = stack.enter_context(open(source, "rb"))
            elif isinstance(source, (bytes, bytearray, memoryview)):
                source = io.BytesIO(source)
            image = _image_of(source, name)
            width, height = image.size
            if width * height > max_pixels:
                raise ImageTooLargeError(
                    f"{name}: refused, {width} × {height} pixels are more than the limit of {max_pixels:,}. If you "
                    f"trust the file, raise the limit (--max-pixels {width * height}; in Python "
                    f"max_pixels={width * height})."
                )
            if not width or not height:
                raise ImageError(f"{name}: the image has no pixels. Received: {width} × {height}")
            _scale_transparent_color(image)
            yield image
    except (ImageError, MissingExtraError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file. Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: a folder, not an image.") from error
    except PermissionError as error:
        raise ImageError(f"{name}: permission denied. Check the file's permissions.") from error
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            f"{name}: refused, more pixels than the limit of {max_pixels:,} ({error}). If you trust the file, raise "
            f"the limit (--max-pixels; in Python max_pixels= and PIL.Image.MAX_IMAGE_PIXELS)."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image of a known format. Known: {', '.join(_known_formats())}.") from error
    except Exception as error:  # decoders raise exceptions of every kind on damaged files
        if isinstance(error, ValueError) and "MAX_TEXT" in str(error):
            raise ImageError(
                f"{name}: refused, its text, XMP or color profile is larger than {MAX_PNG_METADATA >> 20} MB. Save it "
                f"again without this metadata."
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{name}: cannot be read ({error.strerror}).") from error
        raise ImageError(
            f"{name}: cannot be decoded, it is truncated or damaged ({error}). Copy or save it again."
        ) from error


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPING = frozenset(TURNS[orientation] for orientation in (5, 6, 7, 8))


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The transposition that makes a loaded image upright, by its EXIF or XMP orientation; None if it is upright.

    Some decoders (TIFF, HEIC) apply the orientation while they load; then the result is None as well.
    """
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # EXIF data that cannot be parsed is ignored
        return None


def upright(image: Image.Image) -> Image.Image:
    """Decode an image and apply its orientation; its mode is kept."""
    image.load()
    turn = turn_of(image)
    return image if turn is None else image.transpose(turn)


def without_alpha(mask: Image.Image) -> Image.Image:
    """Return the channels that hold a mask: the alpha channel unless it is constant, else the image without alpha."""
    if mask.mode in DEEP_MODES or not mask.has_transparency_data:
        return mask
    rgba = mask.convert("RGBA")
    alpha = rgba.getchannel("A")
    low, high = alpha.getextrema()
    return alpha if low < high else rgba.convert("RGB")


def gray_values(image: Image.Image) -> np.ndarray:
    """The pixels of an image in one of the `DEEP_MODES`; a 16-bit PGM gives uint16, though its mode is "I"."""
    values = np.asarray(image)
    return values.astype(np.uint16) if image.mode == "I" and image.format == "PPM" else values


def gray_range(values: np.ndarray, name: str) -> int:
    """The value of white in gray pixels of more than 8 bits.

    White is 65535 for uint16; for other integers, 255 if no value is larger (32-bit TIFFs often hold 8-bit values),
    else 65535; for floats, 1 if no value is larger, else 255.

    Raises:
        ImageError: if a value is negative, or exceeds all of these for its type.
    """
    low, high = float(values.min()), float(values.max())
    for white in (1, 255) if values.dtype.kind == "f" else (65535,) if values.dtype == np.uint16 else (255, 65535):
        if low >= 0 and high <= white:
            return white
    raise ImageError(
        f"{name}: unknown range of gray values. Save the image with 8 or 16 bits per channel. "
        f"Received: {values.dtype} values in {low:g}…{high:g}"
    )


def gray_to_8_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Convert gray values of more than 8 bits to uint8: the upper 8 of 16 bits.

    Raises:
        ImageError: see `gray_range`.
    """
    white = gray_range(values, name)
    return np.floor(values * (1 / 256 if white == 65535 else 255 / white)).astype(np.uint8)


def without_suffix(name: str) -> str:
    """Normalize a name from a list: forward slashes, no suffix of an image format (`cats\\a.2.JPG` → `cats/a.2`)."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).as_posix()


def snapshot(source):
    """Return `source`, or a copy if its pixels may change later, such as those of a frame buffer that is reused."""
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, Image.Image):
        _scale_transparent_color(source)
        try:
            with _pillow_settings:
                # the mode of a 16-bit PGM is "I", and a copy has no format by which `gray_values` would recognize it
                is_pgm = source.format == "PPM" and source.mode == "I"
                return gray_values(source) if is_pgm else source.copy()
        except Exception:  # it cannot be decoded: `read` reports why
            return source
    return np.array(source) if hasattr(source, "__array__") else source


def raise_pillow_limit(max_pixels: int) -> None:
    """Raise Pillow's own pixel limit in this process to `max_pixels`.

    Only for the command line: a library must not change the settings of other packages.
    """
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)


class _PillowSettings:
    """Context with global settings for our reads: a higher limit on a PNG's metadata, and no warnings from Pillow.

    Pillow warns about damaged metadata, which does not change the result, and about sizes, which we limit ourselves.
    The last thread to leave the context restores the settings.
    """

    def __init__(self):
        self._lock, self._readers, self._limit = threading.Lock(), 0, 0

    def __enter__(self):
        with self._lock:
            if not self._readers:
                self._limit = PngImagePlugin.MAX_TEXT_CHUNK
                PngImagePlugin.MAX_TEXT_CHUNK = max(self._limit, MAX_PNG_METADATA)
                # not by filterwarnings(), which would repeat warnings that are to be shown only once
                warnings.filters.insert(0, _NO_PILLOW_WARNINGS)
            self._readers += 1

    def __exit__(self, *error):
        with self._lock:
            self._readers -= 1
            if not self._readers:
                PngImagePlugin.MAX_TEXT_CHUNK = self._limit
                with contextlib.suppress(ValueError):  # somebody else has reset the filters
                    warnings.filters.remove(_NO_PILLOW_WARNINGS)


_pillow_settings = _PillowSettings()


def object_of_two_values(mask: np.ndarray) -> np.ndarray | None:
    """Return the object of a mask `(H, W)` of 0 and one other value, or of 1 only: bool, True where it is not 0.

    None if the mask has other values.
    """
    zero, largest = mask == 0, mask.max()
    if (largest == 1 or zero.any()) and (zero | (mask == largest)).all():
        return ~zero
    return None


def _name_of(source):
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the bytes given"
    if isinstance(source, Image.Image):
        return "the Pillow image"
    if hasattr(source, "__array__"):
        return "the array"
    raise TypeError(f"An image must be a path, bytes, a Pillow image or an array. Received: {type(source).__name__}")


def _image_of(source, name):
    if isinstance(source, Image.Image):
        return source
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source), name)
    if not source.seekable():  # a pipe
        source = io.BytesIO(source.read())
    head = source.read(16)
    if not head:
        raise ImageError(f"{name}: the file is empty (0 bytes). Copy it again.")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        _register_heic(name)
        return Image.open(source, formats=("HEIF", "AVIF"))
    return Image.open(source, formats=FORMATS)


def _to_rgb(image, name):
    """Return the image in RGB on white, its alpha channel or None, and the color profile of the result."""
    profile = image.info.get("icc_profile")
    if profile and profile[16:20] == b"GRAY":
        profile = None  # the result has colors
    if image.mode in DEEP_MODES:
        values, transparent = gray_values(image), image.info.get("transparency")
        image = Image.fromarray(gray_to_8_bits(values, name))
        if transparent is None:
            return image.convert("RGB"), None, None
        image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    if image.mode == "CMYK" and profile:
        return _cmyk_to_srgb(image, profile), None, None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB"), alpha, profile
    if image.mode == "RGB":
        return image, None, profile
    return image.convert("RGB"), None, None


def _scale_transparent_color(image):
    """Scale a PNG's transparent color to 8 bits, since Pillow scales only the pixels."""
    color = image.info.get("transparency")
    if image.format != "PNG" or not image.tile or color is None:
        return
    mode = image.tile[0].args
    if mode in ("L;2", "L;4"):
        image.info["transparency"] = color * {"L;2": 85, "L;4": 17}[mode]
    elif mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)


def _cmyk_to_srgb(image, profile):
    from PIL import ImageCms  # rarely needed, and it loads a library

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")  # with a damaged profile only the exact colors are lost


def _from_array(array, name):
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"{name}: must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Received: shape={array.shape}")
    if array.size == 0:
        raise ImageError(f"{name}: the image has no pixels. Received: shape={array.shape}")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):  # also false for NaN
            raise ImageError(
                f"{name}: float values must be in 0…1; for values in 0…255 pass uint8. Received: {low:g}…{high:g}"
            )
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(f"{name}: must be bool, uint8, uint16 or float in 0…1. Received: dtype={array.dtype}")
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _known_formats():
    return (*FORMATS, "HEIC") if importlib.util.find_spec("pillow_heif") else FORMATS


def _register_heic(name):
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{name}: HEIC images need an extra: pip install "keras-recnet[heic]". Or convert the image to JPEG.'
        ) from error
    pillow_heif.register_heif_opener()
