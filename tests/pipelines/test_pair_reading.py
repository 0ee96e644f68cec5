import numpy as np
import pytest
from PIL import Image

from keras_recnet.errors import ImageError
from keras_recnet.imaging.reading import read
from keras_recnet.pipelines import Pair, PipelineDataError, check_pairs, read_pair

GRAY = np.array([[0, 64, 128, 255], [255, 128, 64, 0]], np.uint8)
MASK = np.array([[0, 0, 255, 255], [0, 255, 255, 255]], np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Images


def save_kind(kind, path):
    """Save an image of the given kind and return its RGB values."""
    gray = np.repeat(GRAY[..., None], 3, axis=-1)
    if kind == "gray":
        Image.fromarray(GRAY).save(path)
    elif kind == "rgb":
        Image.fromarray(RGB).save(path)
        return RGB
    elif kind == "16 bits":
        Image.fromarray(GRAY.astype(np.uint16) * 257).save(path)
    elif kind == "palette":
        Image.fromarray(gray).quantize(4, dither=Image.Dither.NONE).save(path)
    elif kind == "bits":
        Image.fromarray(MASK).convert("1").save(path)
        return np.repeat(MASK[..., None], 3, axis=-1)
    elif kind == "alpha":
        alpha = np.full(GRAY.shape, 255, np.uint8)
        alpha[0] = 0
        Image.fromarray(np.dstack([gray, alpha])).save(path)
        gray = gray.copy()
        gray[0] = 255
    return gray


@pytest.mark.parametrize("kind", ["gray", "rgb", "16 bits", "palette", "bits", "alpha"])
def test_every_kind_of_image_is_converted_to_rgb(kind, tmp_path):
    expected = save_kind(kind, tmp_path / "a.png")
    image = read(tmp_path / "a.png").rgb
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_cmyk_is_converted_to_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(read(tmp_path / "a.jpg").rgb[4, 4], (255, 0, 0), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".png", ".tif", ".jpg"])
def test_the_exif_orientation_is_applied(orientation, extension, tmp_path):
    image = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    # The tag contains the rotation that makes the stored image upright, so the image is stored with the inverse
    # rotation.
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = image if inverse is None else image.transpose(inverse)
    path = tmp_path / f"a{extension}"
    stored.save(path, exif=with_orientation(orientation), quality=100, subsampling=0)
    np.testing.assert_allclose(read(path).rgb.astype(int), np.asarray(image), atol=4 if extension == ".jpg" else 0)


def test_a_large_jpeg_is_decoded_at_the_smallest_sufficient_scale(tmp_path):
    Image.effect_noise((640, 480), 50).convert("RGB").save(tmp_path / "a.jpg", exif=with_orientation(6))
    assert read(tmp_path / "a.jpg").rgb.shape == (640, 480, 3)
    assert read(tmp_path / "a.jpg", at_least=100).rgb.shape == (160, 120, 3)
    assert read(tmp_path / "a.jpg", at_least=130).rgb.shape == (320, 240, 3)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(0, "file is empty", id="empty"),
        pytest.param(0.5, "cannot be decoded", id="truncated"),
        pytest.param(12, "not an image|cannot be decoded", id="only the first bytes"),
    ],
)
def test_an_unusable_file_is_reported(keep, extension, message, tmp_path):
    path = tmp_path / f"a{extension}"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    content = path.read_bytes()
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ImageError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(PipelineDataError, match=message) as caught:
        read_pair(Pair("a", path, None))
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}: ")


def test_a_text_file_named_png_is_not_an_image(tmp_path):
    (tmp_path / "a.png").write_text("not an image at all, and longer than any magic number")
    with pytest.raises(ImageError, match=r"a\.png: not an image"):
        read(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("1", (200, 200)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"a\.png: refused, more pixels"):
        read(tmp_path / "a.png")


# Masks


def read_mask(path, size=(4, 2)):
    """Read the file at `path` as the mask of an image of `size`."""
    image = path.with_name("image.png")
    Image.new("RGB", size).save(image)
    return read_pair(Pair("a", image, path))[1]


def palette_mask(*colors):
    mask = Image.fromarray((MASK > 0).astype(np.uint8))
    mask = mask.convert("P")
    mask.putdata(((MASK > 0).astype(np.uint8)).ravel())
    mask.putpalette([value for color in colors for value in color])
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(Image.fromarray(MASK), id="0 and 255"),
        pytest.param(Image.fromarray(MASK // 255), id="0 and 1"),
        pytest.param(Image.fromarray(MASK // 2), id="0 and 127"),
        pytest.param(Image.fromarray(MASK).convert("1"), id="bits"),
        pytest.param(Image.fromarray(MASK).convert("RGB"), id="rgb"),
        pytest.param(Image.fromarray(MASK.astype(np.uint16) * 257), id="16 bits"),
        pytest.param(Image.fromarray(MASK.astype(np.uint16)), id="255 in 16 bits"),
        pytest.param(Image.fromarray((MASK // 255).astype(np.uint16)), id="1 in 16 bits"),
        pytest.param(palette_mask((0, 0, 0), (255, 255, 255)), id="palette"),
        pytest.param(palette_mask((0, 0, 0), (128, 0, 0)), id="palette of black and red"),
        pytest.param(Image.fromarray(MASK).convert("RGBA"), id="rgba"),
        pytest.param(Image.fromarray(np.dstack([MASK * 0, MASK * 0, MASK * 0, MASK])), id="mask in the alpha channel"),
        pytest.param(Image.fromarray(np.dstack([MASK | 255, MASK | 255, MASK | 255, MASK])), id="white with alpha"),
    ],
)
def test_every_kind_of_mask_reads_as_0_and_255(mask, tmp_path):
    mask.save(tmp_path / "mask.png")
    values = read_mask(tmp_path / "mask.png")
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, MASK)


def test_a_float_mask_is_read(tmp_path):
    Image.fromarray(MASK.astype(np.float32) / 255).save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), MASK)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_constant_mask_is_read(value, tmp_path):
    Image.new("L", (4, 2), value).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == (255 if value else 0)).all()


def test_a_soft_mask_keeps_its_gray_values(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), GRAY)


@pytest.mark.parametrize("under", [GRAY, GRAY * 0, GRAY | 255])
def test_an_alpha_channel_that_is_not_constant_is_the_mask(tmp_path, under):
    for rgba in ([under, MASK], [under, under, under, MASK], [*RGB[:2, :4].transpose(2, 0, 1), MASK]):
        Image.fromarray(np.dstack(rgba)).save(tmp_path / "mask.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MASK)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_a_constant_alpha_channel_is_ignored(tmp_path, alpha):
    Image.fromarray(np.dstack([GRAY, np.full_like(GRAY, alpha)])).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), GRAY)


def test_traces_of_color_in_a_jpeg_mask_are_accepted(tmp_path):
    Image.fromarray(np.kron(MASK, np.ones((32, 32), np.uint8))).convert("RGB").save(tmp_path / "mask.jpg")
    values = read_mask(tmp_path / "mask.jpg")
    np.testing.assert_allclose(values[::32, ::32].astype(int), MASK, atol=12)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.fromarray(RGB), "a color image, not a mask"),
        (palette_mask((0, 0, 255), (255, 0, 0)), "a color image, not a mask"),
        (Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4)), "label numbers 0…7, not a mask"),
    ],
)
def test_an_image_that_is_not_a_mask_is_reported(mask, message, tmp_path):
    mask.save(tmp_path / "mask.png")
    with pytest.raises(PipelineDataError, match=rf"mask\.png: .*{message}"):
        read_mask(tmp_path / "mask.png", mask.size)


# Sizes and orientations


@pytest.mark.parametrize("size", [(100, 67), (1000, 667), (320, 213), (2000, 1334), (100, 66)])
def test_a_mask_may_differ_in_size_from_its_image(size, tmp_path):
    Image.new("L", size, 255).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (1000, 667)).shape == size[::-1]


@pytest.mark.parametrize("size", [(100, 70), (667, 1000), (300, 300)])
def test_a_mask_with_other_proportions_is_reported(size, tmp_path):
    Image.new("L", size, 255).save(tmp_path / "mask.png")
    with pytest.raises(PipelineDataError, match=rf"{size[0]}×{size[1]} pixels do not have .*1000×667"):
        read_mask(tmp_path / "mask.png", (1000, 667))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_mask_is_rotated_only_if_it_matches_the_image_as_stored(tmp_path, orientation, extension):
    stored = np.zeros((30, 40), np.uint8)
    stored[:10, :25] = 255  # a corner, so that all rotations differ
    Image.fromarray(stored).convert("RGB").save(tmp_path / f"a{extension}", exif=with_orientation(orientation))
    image = read(tmp_path / f"a{extension}").rgb
    upright = (image[..., 0] > 127).astype(np.uint8) * 255
    masks = [upright] if orientation == 3 else [upright, stored]
    for mask in masks:
        Image.fromarray(mask).save(tmp_path / "mask.png")
        pair = Pair("a", tmp_path / f"a{extension}", tmp_path / "mask.png")
        np.testing.assert_array_equal(read_pair(pair)[1], upright)


def test_problems_of_both_files_are_reported(tmp_path):
    with pytest.raises(PipelineDataError) as caught:
        read_pair(Pair("a", tmp_path / "a.jpg", tmp_path / "a.png"))
    assert caught.value.problems == [f"{tmp_path / name}: no such file. Check the path." for name in ("a.jpg", "a.png")]


def test_an_image_without_a_mask_gets_an_empty_mask(folders, save_pair):
    save_pair("a", size=(40, 30))
    image, mask = read_pair(Pair("a", folders[0] / "a.jpg", None))
    np.testing.assert_array_equal(image, read(folders[0] / "a.jpg").rgb)
    np.testing.assert_array_equal(mask, np.zeros((30, 40), np.uint8))
    check_pairs([Pair("a", folders[0] / "a.jpg", None)])
    (folders[0] / "a.jpg").unlink()
    with pytest.raises(PipelineDataError, match="no such file"):
        check_pairs([Pair("a", folders[0] / "a.jpg", None)])


# Maps of a teacher


@pytest.fixture
def taught(tmp_path):
    """Function that saves an image with a map, and a mask unless it is None: `taught(map, mask=None, weight=0.5)`."""

    def taught(teacher_map, mask=None, weight=0.5, name="map.png", **options):
        Image.fromarray(np.repeat(np.repeat(RGB[:2, :4], 4, 0), 4, 1)).save(tmp_path / "a.png")  # 16×8
        if isinstance(teacher_map, np.ndarray):
            teacher_map = Image.fromarray(teacher_map)
        teacher_map.save(tmp_path / name, **options)
        if mask is not None:
            Image.fromarray(mask).save(tmp_path / "mask.png")
        return Pair("a", tmp_path / "a.png", None if mask is None else tmp_path / "mask.png", tmp_path / name, weight)

    return taught


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_a_map_and_a_mask_are_mixed_by_the_weight(taught, weight):
    expected = weight * GRAY.astype(float) + (1 - weight) * MASK.astype(float)
    np.testing.assert_allclose(read_pair(taught(GRAY, MASK, weight))[1], expected, atol=0.501)


def test_without_a_mask_the_map_is_the_target_whatever_the_weight(taught):
    for weight in (0.0, 0.3):
        np.testing.assert_array_equal(read_pair(taught(GRAY, None, weight))[1], GRAY)


def test_a_map_is_resized_to_the_mask(taught):
    large = np.repeat(np.repeat(GRAY, 4, 0), 4, 1)
    mask = np.repeat(np.repeat(MASK, 2, 0), 2, 1)
    target = read_pair(taught(large, mask, 0.25))[1]
    resized = np.asarray(Image.fromarray(large).resize((8, 4), Image.Resampling.BILINEAR)).astype(float)
    np.testing.assert_allclose(target, 0.25 * resized + 0.75 * mask, atol=0.5)


def test_the_values_of_a_map_are_taken_as_they_are(taught):
    # as masks, these would be label numbers, and 0 and 255
    for values in ([0, 3, 9, 14], [0, 7, 0, 7], [1, 1, 1, 1]):
        dark = np.array([values, values], np.uint8)
        np.testing.assert_array_equal(read_pair(taught(dark))[1], dark)
    np.testing.assert_array_equal(read_pair(taught(GRAY.astype(np.uint16) * 257))[1], GRAY)
    dark = np.array([[0, 200, 255, 2560]] * 2, np.uint16)
    np.testing.assert_array_equal(read_pair(taught(dark))[1], [[0, 0, 0, 10]] * 2)
    np.testing.assert_allclose(read_pair(taught((GRAY / 255).astype(np.float32), name="map.tif"))[1], GRAY, atol=1)
    np.testing.assert_array_equal(read_pair(taught(Image.fromarray(GRAY).convert("RGB")))[1], GRAY)


@pytest.mark.parametrize("decode", [False, True])
def test_a_map_with_other_proportions_than_its_image_is_an_error(taught, decode):
    with pytest.raises(PipelineDataError, match=r"map.png: 4×4 pixels do not have the proportions of .*a.png, 16×8"):
        check_pairs([taught(np.zeros((4, 4), np.uint8), MASK)], decode=decode)
    check_pairs([taught(np.zeros((4, 8), np.uint8), MASK)], decode=decode)


def test_a_map_that_cannot_be_used_is_reported_with_the_other_files(taught):
    colors = np.zeros((8, 16, 3), np.uint8)
    colors[:, :5], colors[:, 5:10], colors[:, 10:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    with pytest.raises(PipelineDataError, match=r"map.png: a color image, not a saliency map"):
        read_pair(taught(colors))
    pair = taught(GRAY, MASK)
    pair.mask.write_bytes(b"")
    pair.teacher_map.unlink()
    for decode in (False, True):
        with pytest.raises(PipelineDataError) as caught:
            check_pairs([pair], decode=decode)
        assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
            "the file is empty (0 bytes). Copy it again.",
            "no such file. Check the path.",
        ]


def test_a_map_of_the_stored_image_is_rotated_with_it(tmp_path):
    stored = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(stored).convert("RGB").save(tmp_path / "a.png", exif=with_orientation(6))
    for saved in (stored, np.rot90(stored, -1)):
        Image.fromarray(saved).save(tmp_path / "map.png")
        target = read_pair(Pair("a", tmp_path / "a.png", None, tmp_path / "map.png"))[1]
        np.testing.assert_array_equal(target, np.rot90(stored, -1))
