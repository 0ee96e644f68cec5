import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_recnet.errors import ImageError
from keras_recnet.evaluation.map_files import load, read_map, read_mask

VALUES = np.array([[0, 64, 128], [129, 200, 255]], np.uint8)


def encoded(image, suffix="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, suffix, **options)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_values_above_128_belong_to_the_mask():
    np.testing.assert_array_equal(read_mask(encoded(VALUES), "m.png"), VALUES > 128)
    np.testing.assert_array_equal(read_mask(encoded(VALUES.astype(np.uint16) * 257), "m.png"), VALUES > 128)
    np.testing.assert_array_equal(read_mask(encoded(np.stack([VALUES] * 3, -1)), "m.png"), VALUES > 128)
    np.testing.assert_array_equal(read_mask(encoded(Image.fromarray(VALUES).convert("1", dither=0)), "m"), VALUES > 127)


@pytest.mark.parametrize("under", [VALUES, VALUES * 0, VALUES | 255])
def test_an_alpha_channel_that_is_not_constant_is_the_mask(under):
    for channels in ([under, VALUES], [under, under, under, VALUES]):
        np.testing.assert_array_equal(read_mask(encoded(np.dstack(channels)), "m.png"), VALUES > 128)


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_constant_alpha_channel_is_ignored(alpha):
    mask = np.dstack([VALUES, np.full_like(VALUES, alpha)])
    np.testing.assert_array_equal(read_mask(encoded(mask), "m.png"), VALUES > 128)


@pytest.mark.parametrize(("suffix", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_the_orientation_of_masks_and_maps_is_applied(suffix, options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(np.rot90(VALUES), suffix, exif=exif, **options)
    np.testing.assert_array_equal(read_mask(data, "m"), VALUES > 128)
    np.testing.assert_allclose(read_map(data, "m")[0], VALUES / 255)


def test_an_empty_mask_is_valid():
    assert not read_mask(encoded(np.zeros((4, 5), np.uint8)), "m.png").any()


@pytest.mark.parametrize("top", [1, 76, 128, 255])
def test_a_mask_of_two_values_marks_the_larger_one(top):
    data = encoded((VALUES > 128).astype(np.uint8) * top)
    np.testing.assert_array_equal(read_mask(data, "m.png"), VALUES > 128)


def test_a_mask_of_ones_is_all_object():
    assert read_mask(encoded(np.ones((4, 5), np.uint8)), "m.png").all()


def test_a_mask_of_several_labels_is_refused():
    with pytest.raises(ImageError, match=r"^m.png: no pixel is above 128.*Received: values in 0…2$"):
        read_mask(encoded((VALUES // 100).astype(np.uint8)), "m.png")


@pytest.mark.parametrize(
    ("data", "notes"),
    [
        (encoded(VALUES), []),
        (encoded(VALUES, "BMP"), []),
        (encoded(Image.fromarray(VALUES).convert("P")), []),
        (encoded(Image.fromarray(VALUES).convert("LA")), []),
        (encoded(np.stack([VALUES] * 3, -1)), ["rgb"]),
        (encoded(Image.fromarray(np.stack([VALUES] * 3, -1)).convert("RGBA")), ["rgb"]),
        (encoded(VALUES.astype(np.uint16) * 257), ["16-bit"]),
        (encoded(VALUES.astype(np.int32), "TIFF"), []),
        (encoded(VALUES.astype(np.float32) / 255, "TIFF"), ["float"]),
        (npy(VALUES), []),
        (npy(VALUES.astype(np.uint16) * 257), ["16-bit"]),
        (npy(VALUES / 255), ["float"]),
        (npy(VALUES[None] / 255), ["float"]),
        (npy((VALUES / 255)[..., None]), ["float"]),
    ],
)
def test_every_kind_of_map_gives_the_same_values(data, notes):
    saliency, found = read_map(data, "map")
    assert saliency.dtype == np.float64
    np.testing.assert_allclose(saliency, VALUES / 255, atol=1e-7)
    assert found == notes


def test_16_bits_are_kept():
    saliency, _ = read_map(encoded(np.array([[1, 65535]], np.uint16)), "map.png")
    np.testing.assert_allclose(saliency, [[1 / 65535, 1]])


def test_colors_are_read_as_luminance_and_noted():
    saliency, notes = read_map(encoded(np.array([[[255, 0, 0]]], np.uint8)), "map.png")
    assert notes == ["color"]
    assert saliency == pytest.approx(0.299, abs=2e-3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"the file is empty"),
        (b"no picture", r"not an image of a known format"),
        (encoded(np.zeros((99, 99), np.uint8))[:60], r"truncated or damaged"),
        (encoded(np.array([[0, np.nan]], np.float32), "TIFF"), r"1 of 2 values are NaN or infinite"),
        (encoded(np.array([[0, 200]], np.float32), "TIFF"), r"must be in 0…1.*Received: float32 values in 0…200"),
        (npy(np.array([[0, np.inf]])), r"1 of 2 values are NaN"),
        (npy(np.array([[-0.5, 0]])), r"must be in 0…1"),
        (npy(np.array([[70000]])), r"Received: int64 of shape"),
        (npy(np.zeros((2, 2, 3))), r"Received: float64 of shape \(2, 2, 3\)"),
        (npy(np.zeros((0, 2))), r"Received: float64 of shape \(0, 2\)"),
        (npy(np.zeros((2, 2)))[:100], r"not a readable .npy file"),
        (npy(np.array([{}])), r"not a readable .npy file"),
    ],
)
def test_an_error_names_the_invalid_map(data, message):
    with pytest.raises(ImageError, match=f"^broken: .*{message}"):
        read_map(data, "broken")


def test_an_error_names_the_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"gone.png: cannot be read"):
        load(tmp_path / "gone.png")
