import contextlib
import io
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from PIL.PngImagePlugin import PngInfo

from keras_recnet.errors import ImageError, ImageTooLargeError, MissingExtraError
from keras_recnet.imaging.reading import FORMATS, read, snapshot

# Four quadrants of different colors, so that every rotation and flip is visible.
QUARTERS = np.kron(
    np.array([[[250, 10, 10], [10, 240, 10]], [[10, 10, 230], [240, 240, 240]]], np.uint8),
    np.ones((24, 32, 1), np.uint8),
)


def encoded(image, file_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "TGA", "PCX", "SGI", "QOI", "JPEG2000"])
def test_lossless_formats_are_read_exactly(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    image = read(encoded(Image.fromarray(QUARTERS), file_format, **options))
    np.testing.assert_array_equal(image.rgb, QUARTERS)
    assert image.size == (48, 64)
    assert image.alpha is None


@pytest.mark.parametrize("file_format", ["JPEG", "AVIF", "GIF", "MPO"])
def test_lossy_formats_are_read_approximately(file_format):
    image = read(encoded(Image.fromarray(QUARTERS), file_format))
    assert np.abs(image.rgb.astype(int) - QUARTERS).mean() < 4


@pytest.mark.parametrize("fit", [None, (48, 64)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation, fit):
    stored = {
        1: QUARTERS,
        2: QUARTERS[:, ::-1],
        3: QUARTERS[::-1, ::-1],
        4: QUARTERS[::-1],
        5: QUARTERS.transpose(1, 0, 2),
        6: np.rot90(QUARTERS, 1),
        7: QUARTERS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(QUARTERS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for file_format in ("PNG", "TIFF"):
        image = read(encoded(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif), fit=fit)
        np.testing.assert_array_equal(image.rgb, QUARTERS)
        assert image.size == (48, 64)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_the_orientation_of_every_format_is_applied(file_format, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    options = {"exif": exif} if kind == "exif" else {"xmp": xmp}
    if file_format == "PNG" and kind == "xmp":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": info}
    if file_format == "TIFF" and kind == "xmp":
        options = {"tiffinfo": {700: xmp}}
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(QUARTERS)))
    image = read(encoded(stored, file_format, quality=95, **options))
    assert np.abs(image.rgb.astype(int) - QUARTERS).mean() < 6
    assert image.size == (48, 64)


def test_unreadable_exif_data_are_ignored():
    image = read(encoded(Image.fromarray(QUARTERS), "JPEG", exif=b"Exif\x00\x00garbage", quality=95))
    assert image.size == (48, 64)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("P", (4, 4), 0), (0, 0, 0)),
        (Image.new("LA", (4, 4), (100, 255)), (100, 100, 100)),
        (Image.new("RGBA", (4, 4), (200, 100, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (200, 100, 0, 255)), (200, 100, 0)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("HSV", (4, 4), (0, 255, 255)), (255, 0, 0)),
        (Image.fromarray(np.full((4, 4), 0x4D12, np.uint16)), (0x4D, 0x4D, 0x4D)),
        (Image.fromarray(np.full((4, 4), 0x4D12, np.int32)), (0x4D, 0x4D, 0x4D)),
        (Image.fromarray(np.full((4, 4), 0.5, np.float32)), (127, 127, 127)),
        (Image.fromarray(np.full((4, 4), 77.0, np.float32)), (77, 77, 77)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_rgb(image, expected):
    image = read(image)
    assert image.rgb.dtype == np.uint8
    assert tuple(image.rgb[0, 0]) == expected


def test_sixteen_bit_files_keep_their_upper_bits():
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for file_format in ("PNG", "TIFF"):
        gray = read(encoded(Image.fromarray(values), file_format)).rgb
        np.testing.assert_array_equal(gray[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(("top", "factor"), [(255, 1), (65535, 257)])
def test_32_bit_integers_are_read_as_0_to_255_or_as_0_to_65535(top, factor):
    values = np.arange(256, dtype=np.int32).reshape(16, 16) * factor
    assert values.max() == top
    image = read(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(image.rgb[..., 0], np.arange(256).reshape(16, 16))


def test_a_dark_16_bit_pgm_stays_dark():
    assert read(b"P5 2 1 65535\n\x00\xff\x01\x00").rgb[..., 0].tolist() == [[0, 1]]


def test_a_cmyk_jpeg_from_adobe_programs_is_not_inverted():
    # Pillow writes CMYK JPEGs as Adobe does: inverted, with a marker.
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    np.testing.assert_allclose(read(data).rgb[8, 8], (255, 0, 0), atol=4)


def test_a_damaged_cmyk_profile_is_ignored():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95, icc_profile=b"garbage" * 50)
    np.testing.assert_allclose(read(data).rgb[8, 8], (255, 0, 0), atol=4)


def test_the_color_profile_is_kept():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read(encoded(Image.fromarray(QUARTERS), icc_profile=profile)).profile == profile


def test_a_16_bit_transparent_color_becomes_white_and_is_kept_as_alpha():
    values = np.array([[0x1234, 0x1235]], np.uint16)
    image = read(encoded(Image.fromarray(values), transparency=0x1234))
    assert image.alpha.tolist() == [[0, 255]]
    assert image.rgb.tolist() == [[[255] * 3, [0x12] * 3]]


def test_palette_transparency_becomes_white_and_is_kept_as_alpha():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    image = image.convert("P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image = read(encoded(image, transparency=1))
    np.testing.assert_array_equal(image.rgb[0], [(255, 0, 0), (255, 255, 255)])
    np.testing.assert_array_equal(image.alpha, [[255, 0], [0, 255]])


def test_only_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for file_format in ("GIF", "TIFF", "WEBP"):
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
        assert read(data).rgb[4, 4, 0] > 240


@pytest.mark.parametrize("fit", [(30, 40), (100, 90)])
def test_fit_resizes_as_pillow_does(fit):
    noise = np.random.default_rng(0).integers(0, 256, (70, 80, 3), np.uint8)
    image = read(encoded(Image.fromarray(noise)), fit=fit)
    expected = Image.fromarray(noise).resize(fit[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(image.rgb, np.asarray(expected))
    assert image.size == (70, 80)


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same():
    large = Image.fromarray(QUARTERS).resize((1600, 1200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(large, "JPEG", quality=90, exif=exif)
    image = read(data, fit=(96, 64))
    assert image.size == (1600, 1200)
    expected = large.transpose(Image.Transpose.ROTATE_270).resize((64, 96), Image.Resampling.BILINEAR)
    assert np.abs(image.rgb.astype(int) - np.asarray(expected)).max() <= 6


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((3, 5), 77, np.uint8), 77),
        (np.full((3, 5, 1), 77, np.uint8), 77),
        (np.full((3, 5, 3), 77, np.uint8), 77),
        (np.full((3, 5, 4), 255, np.uint8), 255),
        (np.full((3, 5), True), 255),
        (np.full((3, 5, 3), 77 * 256 + 9, np.uint16), 77),
        (np.full((3, 5, 3), 0.2, np.float64), 51),
        (np.full((3, 5), 1.0, np.float16), 255),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else None,
)
def test_arrays_are_read(array, expected):
    image = read(array)
    np.testing.assert_array_equal(image.rgb, np.full((3, 5, 3), expected))


def test_an_image_of_one_pixel_is_read():
    assert read(np.zeros((1, 1, 3), np.uint8), fit=(8, 8)).rgb.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4,)), r"shape=\(4,\)"),
        (np.zeros((4, 4, 2), np.uint8), r"shape=\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4), np.int64), "dtype=int64"),
        (np.full((4, 4), 200.0), r"0…255 pass uint8. Received: 200…200"),
        (np.full((4, 4), -0.1), "Received: -0.1"),
        (np.array([[0.0, np.nan]]), "Received: nan"),
        (np.array([["a"]]), "dtype"),
    ],
)
def test_ambiguous_arrays_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        read(array)


@pytest.mark.parametrize(
    ("values", "received"),
    [
        (np.full((4, 4), -1.0, np.float32), "-1"),
        (np.full((4, 4), 1e6, np.float32), "1e"),
        (np.full((4, 4), 70000), "70000"),
    ],
)
def test_gray_values_of_unknown_range_are_refused(values, received):
    with pytest.raises(ImageError, match=f"Received: .*{received}"):
        read(Image.fromarray(values.astype(np.int32) if values.dtype.kind == "i" else values))


def broken_files(folder):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8))
    files = {
        "truncated.jpg": (encoded(noise, "JPEG")[:3000], "truncated"),
        "truncated.png": (encoded(noise)[:3000], "truncated"),
        "truncated.webp": (encoded(noise, "WEBP")[:3000], "damaged"),
        "truncated.tif": (encoded(noise, "TIFF")[:3000], "truncated"),
        "text.png": (b"This is no image.\n" * 20, "known format"),
        "empty.jpg": (b"", "empty"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {folder / name: message for name, (_, message) in files.items()}


@pytest.mark.parametrize("fit", [None, (64, 64)])
def test_errors_name_the_file_and_its_fault(tmp_path, bomb, fit):
    others = {bomb: "refused.*max-pixels", tmp_path / "no.jpg": "no such file", tmp_path: "folder"}
    for path, message in {**broken_files(tmp_path), **others}.items():
        with pytest.raises(ImageError, match=message) as raised:
            read(path, fit=fit)
        assert str(raised.value).startswith(str(path))


def test_a_file_truncated_anywhere_is_read_or_refused():
    for file_format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "QOI", "ICO", "TGA"):
        data = encoded(Image.fromarray(QUARTERS), file_format)
        for length in range(1, len(data), max(1, len(data) // 40)):
            with contextlib.suppress(ImageError):
                read(data[:length])


def png_with_metadata(size):
    info = PngInfo()
    info.add_text("Description", "x" * size, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "y" * size, zip=True)
    return encoded(Image.fromarray(QUARTERS), pnginfo=info, icc_profile=bytes(size))


def test_a_png_with_large_metadata_is_read_and_pillows_limit_is_restored():
    data, limit = png_with_metadata(3 * 2**20), PngImagePlugin.MAX_TEXT_CHUNK
    with ThreadPoolExecutor(4) as pool:
        for image in pool.map(read, [data] * 8):
            np.testing.assert_array_equal(image.rgb, QUARTERS)
    assert len(image.profile) == 3 * 2**20
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
        Image.open(io.BytesIO(data)).load()


@pytest.mark.parametrize("size", [33 * 2**20, 65 * 2**20])
def test_a_png_with_too_much_metadata_is_refused(size):
    with pytest.raises(ImageError, match=r"^a\.png: refused, its text, XMP or color profile is larger than 64 MB"):
        read(png_with_metadata(size), name="a.png")


def test_an_image_over_the_limit_is_refused_before_decoding(save_photo):
    path = save_photo("photo.png", (40, 50))
    with pytest.raises(ImageTooLargeError, match=r"50 × 40 pixels .* limit of 1,999.*--max-pixels 2000"):
        read(path, max_pixels=1999)
    assert read(path, max_pixels=2000).size == (40, 50)


def test_no_program_is_run_to_decode_an_image():
    assert not {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"} & set(FORMATS)
    with pytest.raises(ImageError, match="known format"):
        read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


def test_heic_is_read_with_the_extra():
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(QUARTERS)).save(file, quality=95)
    image = read(file.getvalue())
    assert image.size == (48, 64)
    assert np.abs(image.rgb.astype(int) - QUARTERS).mean() < 6


def test_the_error_for_heic_without_the_extra_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[heic\]"'):
        read(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", name="photo.heic")


def test_a_source_of_an_unknown_type_is_refused():
    with pytest.raises(TypeError, match="Received: int"):
        read(3)


def test_pillow_warnings_are_suppressed_only_while_reading():
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = encoded(Image.fromarray(QUARTERS), "JPEG", exif=exif.tobytes()[:20])
    filters = list(warnings.filters)
    assert read(data).turn is None
    assert warnings.filters == filters
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(io.BytesIO(data)) as image:
        image.getexif()


@pytest.mark.parametrize(
    ("values", "upper_bits"),
    [([[0, 40, 255], [256, 20000, 65535]], [[0, 0, 0], [1, 78, 255]]), ([[0, 40, 255]], [[0, 0, 0]])],
)
def test_a_snapshot_of_a_16_bit_pgm_keeps_the_range_of_its_values(values, upper_bits):
    pixels = np.array(values, ">u2")
    header = f"P5\n{pixels.shape[1]} {pixels.shape[0]}\n65535\n".encode()
    image = Image.open(io.BytesIO(header + pixels.tobytes()))
    assert read(snapshot(image)).rgb[..., 0].tolist() == upper_bits


def test_a_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(data, "PNG")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data.getvalue()))
    thread.start()
    decoded = read(tmp_path / "pipe")
    thread.join()
    assert decoded.rgb.shape == (4, 5, 3)


def test_out_of_memory_is_not_reported_as_a_damaged_file(tmp_path, monkeypatch):
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        read(tmp_path / "a.png")


def test_the_profile_of_a_gray_image_is_not_kept(tmp_path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    Image.new("LA", (5, 4)).save(tmp_path / "a.png", icc_profile=bytes(profile))
    assert read(tmp_path / "a.png").profile is None
