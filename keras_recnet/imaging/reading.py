"""Pictures in: files, bytes, Pillow images and arrays become 8-bit RGB, upright, or a named refusal."""

import dataclasses
import io
import os
import warnings
from pathlib import PurePosixPath

import numpy as np
from PIL import ExifTags, Image

from keras_recnet.errors import ImageError, MissingExtraError

# Formats whose decoders work on the bytes alone. Left out: EPS (runs Ghostscript), stubs without a decoder, and
# formats that no camera or picture program writes today. The common ones stand first, since Pillow imports the others
# only when these did not match.
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


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded picture, upright (EXIF rotation applied).

    Attributes:
        rgb: uint8 `(h, w, 3)`, transparent parts shown over white.
        size: `(height, width)` of the picture in full, also when `rgb` holds it shrunk.
        alpha: uint8 `(h, w)`, the picture's own transparency, or None when it has none.
        profile: its ICC colour profile, or None.
    """

    rgb: np.ndarray
    size: tuple[int, int]
    alpha: np.ndarray | None = None
    profile: bytes | None = None


def read(source, *, fit=None, max_pixels=MAX_PIXELS, name=None) -> Picture:
    """Reads one picture.

    The rules, the same for every format:

    - the first frame of an animation, the first page of a TIFF;
    - rotated as its EXIF orientation says;
    - grey becomes RGB with three equal channels;
    - of 16-bit values the upper 8 bits count, they are not stretched to the range that they use;
    - transparent parts are shown over white;
    - CMYK goes through its embedded colour profile when there is one.

    Args:
        source: a path, the bytes of a file, a `PIL.Image.Image`, or an array: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` in RGB
            or `(H, W, 4)` in RGBA; bool, uint8, uint16, or float in 0…1.
        fit: `(height, width)` to shrink or stretch the picture to while it is read (bilinear, antialiased). A large
            JPEG is then decoded at 1/2, 1/4 or 1/8, as long as that keeps twice the size that is asked for.
            None keeps the picture's own size.
        max_pixels: a picture with more is refused before it is decoded.
        name: what messages call it; by default the path.

    Raises:
        ImageError: if it cannot be read or is refused.
        MissingExtraError: if it is a HEIC picture and pillow-heif is not installed.
    """
    if isinstance(source, Image.Image):
        return _decoded(source, fit, max_pixels, name or "the Pillow image", draft=False)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_file(io.BytesIO(source), fit, max_pixels, name or "the bytes given")
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        try:
            with open(source, "rb") as file:
                return _from_file(file, fit, max_pixels, name)
        except FileNotFoundError as error:
            raise ImageError(f"{name}: no such file. Check the path.") from error
        except IsADirectoryError as error:
            raise ImageError(f"{name}: a folder, not a picture.") from error
        except PermissionError as error:
            raise ImageError(f"{name}: not allowed to read it. Check its permissions.") from error
        except OSError as error:
            raise ImageError(f"{name}: cannot be read ({error.strerror or error}).") from error
    if hasattr(source, "__array__"):
        image = _from_array(np.asarray(source), name or "the array")
        return _decoded(image, fit, max_pixels, name or "the array", draft=False)
    raise TypeError(f"A picture must be a path, bytes, a Pillow image or an array. Received: {type(source).__name__}")


def without_suffix(name: str) -> str:
    """Normalise a name of a list: forward slashes, and no suffix of an image format (`cats\\a.2.JPG` → `cats/a.2`)."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).as_posix()


def snapshot(source):
    """Return `source`, or a copy of it if its pixels can change, such as those of a frame buffer that is used again."""
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, Image.Image):
        _scale_transparent_colour(source)
        try:
            return source.copy()
        except Exception:  # it cannot be decoded: `read` reports why
            return source
    return np.array(source) if hasattr(source, "__array__") else source


def leave_pixel_limit_to_read(max_pixels: int) -> None:
    """Raises Pillow's own limit in this process to `max_pixels`, and silences the warning before its refusal.

    For a program of ours alone: a library leaves other packages' settings as it finds them.
    """
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _from_file(file, fit, max_pixels, name):
    head = file.read(16)
    if not head:
        raise ImageError(f"{name}: the file is empty (0 bytes). Copy it again.")
    formats = FORMATS
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        formats = ("HEIF", "AVIF")
        _register_heic(name)
    try:
        image = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: refused, more pixels than the limit of {max_pixels:,} ({error}). If you trust the file, raise it "
            f"(--max-pixels; in Python max_pixels= and PIL.Image.MAX_IMAGE_PIXELS)."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture of a known format. Known: {', '.join(FORMATS)}.") from error
    except Exception as error:  # decoders meet broken files with exceptions of every kind
        raise _broken(name, error) from error
    with image:
        return _decoded(image, fit, max_pixels, name)


def _decoded(image, fit, max_pixels, name, draft=True):
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: refused, {width} × {height} pixels are more than the limit of {max_pixels:,}. If you trust the "
            f"file, raise it (--max-pixels {width * height}; in Python max_pixels={width * height})."
        )
    if not width or not height:
        raise ImageError(f"{name}: the picture has no pixels. Received: {width} × {height}")
    try:
        # Both sides by the longer one: the EXIF rotation is not known yet for every format.
        drafted = fit and draft and image.draft("RGB", (2 * max(fit), 2 * max(fit)))
        _scale_transparent_colour(image)
        image.load()
        if not drafted:
            width, height = image.size  # some decoders rotate by themselves
        turn = _turn(image)
        profile = image.info.get("icc_profile")
        image, alpha, profile = _to_rgb(image, profile, name)
        swapped = turn in _SWAPPING
        if fit:
            image, alpha = image.resize(fit if swapped else fit[::-1], Image.Resampling.BILINEAR), None
        if turn is not None:
            image = image.transpose(turn)
            alpha = alpha and alpha.transpose(turn)
    except ImageError:
        raise
    except Exception as error:
        raise _broken(name, error) from error
    size = (width, height) if swapped else (height, width)
    return Picture(np.asarray(image), size, alpha and np.asarray(alpha), profile)


def _to_rgb(image, profile, name):
    """Gives an RGB image over white, its alpha channel or None, and the profile that its colours are in."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        values, transparent = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray(_grey_in_8_bits(values, name))
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


def _scale_transparent_colour(image):
    """Scale a PNG's transparent colour to 8 bits, since Pillow scales only the pixels."""
    colour = image.info.get("transparency")
    if image.format != "PNG" or not image.tile or colour is None:
        return
    mode = image.tile[0].args
    if mode in ("L;2", "L;4"):
        image.info["transparency"] = colour * {"L;2": 85, "L;4": 17}[mode]
    elif mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _grey_in_8_bits(values, name):
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    # Modes "I" and "F" have no range of their own: 16-bit integers, and 0…1 or 0…255 as programs write floats.
    low, high = float(values.min()), float(values.max())
    ranges = {1: 255, 255: 1} if values.dtype.kind == "f" else {65535: 1 / 256}
    for top, factor in ranges.items():
        if low >= 0 and high <= top:
            return np.floor(values * factor).astype(np.uint8)
    raise ImageError(
        f"{name}: no known range for these grey values. Save the picture with 8 or 16 bits a channel. "
        f"Received: {values.dtype} values in {low:g}…{high:g}"
    )


def _cmyk_to_srgb(image, profile):
    from PIL import ImageCms  # rarely needed, and it loads a library of its own

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")  # a damaged profile costs exact colours, not the picture


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))


def _turn(image):
    # ImageOps.exif_transpose does the same to a picture in full; here it follows the shrinking, which is cheaper.
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # EXIF that cannot be parsed says nothing about the orientation
        return None


def _from_array(array, name):
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"{name}: must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Received: shape={array.shape}")
    if array.size == 0:
        raise ImageError(f"{name}: the picture has no pixels. Received: shape={array.shape}")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):  # also false for NaN
            raise ImageError(
                f"{name}: float values must lie in 0…1; for values in 0…255 pass uint8. Received: {low:g}…{high:g}"
            )
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(f"{name}: must be bool, uint8, uint16 or float in 0…1. Received: dtype={array.dtype}")
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _register_heic(name):
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{name}: HEIC pictures need an extra: pip install "keras-recnet[heic]". Or convert it to JPEG.'
        ) from error
    pillow_heif.register_heif_opener()


def _broken(name, error):
    return ImageError(f"{name}: truncated or damaged, it cannot be decoded ({error}). Copy or save it again.")
