import io

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from keras_recnet.errors import ImageError
from keras_recnet.export.serving.codec import decode_map, encode_image
from keras_recnet.imaging.reading import read


def decoded(data):
    """Decode a file as TensorFlow does in a server."""
    import tensorflow as tf

    if data[:3] == b"\xff\xd8\xff":
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    return tf.io.decode_png(data, channels=3).numpy()


def with_orientation(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


def metadata(kind):
    """Metadata of a PNG that must be rotated by 90°, as XMP or as EXIF in ImageMagick's format."""
    info = PngInfo()
    if kind == "xmp":
        info.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    else:
        data = with_orientation(6).tobytes()
        info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    return info


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("gray.jpg", {"mode": "L"}),
        ("progressive.jpg", {"progressive": True}),
        ("upright.jpg", {"exif": with_orientation(1)}),
        ("a.png", {}),
        ("gray.png", {"mode": "L"}),
        ("palette.png", {"mode": "P"}),
        ("bits.png", {"mode": "1"}),
    ],
)
def test_a_file_that_the_server_reads_correctly_is_sent_unchanged(save_photo, name, options):
    path = save_photo(name, **options)
    for source in (path, str(path), path.read_bytes()):
        assert encode_image(source) == path.read_bytes()
    np.testing.assert_array_equal(decoded(encode_image(path)), read(path).rgb)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_is_made_upright_before_it_is_sent(save_photo, orientation):
    path = save_photo("a.jpg", exif=with_orientation(orientation), quality=95)
    sent = encode_image(path)
    assert sent[:3] == b"\xff\xd8\xff"
    with Image.open(io.BytesIO(sent)) as image:
        assert not image.getexif()
    upright = read(path).rgb
    assert upright.shape[:2] == ((64, 48) if orientation > 4 else (48, 64))
    assert np.abs(decoded(sent).astype(int) - upright).mean() < 1.0


def test_cmyk_is_sent_as_rgb(save_photo):
    path = save_photo("cmyk.jpg", mode="CMYK", quality=95)
    with Image.open(io.BytesIO(encode_image(path))) as image:
        assert image.mode == "RGB"
    assert np.abs(decoded(encode_image(path)).astype(int) - read(path).rgb).mean() < 1.0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("turned.png", {"exif": with_orientation(6)}),
        ("xmp.png", {"pnginfo": metadata("xmp")}),
        ("profile.png", {"pnginfo": metadata("profile")}),
        ("a.webp", {"lossless": True}),
        ("a.gif", {}),
        ("a.tif", {}),
    ],
)
def test_a_file_that_the_server_would_misread_is_sent_as_png(save_photo, name, options):
    path = save_photo(name, **options)
    sent = encode_image(path)
    assert sent != path.read_bytes()
    assert sent[:4] == b"\x89PNG"
    np.testing.assert_array_equal(decoded(sent), read(path).rgb)


def test_transparent_parts_are_sent_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 100, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.full((2, 2, 3), 255)
    expected[0, 0] = (200, 100, 0)
    np.testing.assert_array_equal(decoded(encode_image(tmp_path / "a.png")), expected)


def test_the_upper_8_of_16_bits_are_sent(tmp_path):
    Image.fromarray(np.array([[0x0000, 0x12FF], [0x8000, 0xFFFF]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decoded(encode_image(tmp_path / "a.png"))[..., 0], [[0, 0x12], [0x80, 0xFF]])


def test_arrays_and_pillow_images_are_sent(save_photo):
    rgb = read(save_photo("a.png")).rgb
    for source in (rgb, Image.fromarray(rgb), rgb / 255.0):
        np.testing.assert_array_equal(decoded(encode_image(source)), rgb)


def test_a_file_damaged_after_its_header_is_sent_unchanged(save_photo):
    for name in ("a.jpg", "a.png"):
        data = save_photo(name).read_bytes()[:-40]
        assert encode_image(data) == data


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff and no more", b"\x89PNG\r\n\x1a\n"])
def test_data_that_is_not_an_image_is_refused(data):
    with pytest.raises(ImageError, match=r"^a\.jpg: "):
        encode_image(data, name="a.jpg")


def test_an_unreadable_file_is_refused(tmp_path, bomb):
    with pytest.raises(ImageError, match="no such file"):
        encode_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match=r"bomb\.png: refused, more pixels"):
        encode_image(bomb)
    with pytest.raises(TypeError, match="Received: int"):
        encode_image(7)


def test_a_map_has_the_values_of_its_png():
    values = np.arange(6, dtype=np.uint8).reshape(2, 3) * 51
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    saliency_map = decode_map(file.getvalue())
    assert saliency_map.dtype == np.float32
    np.testing.assert_allclose(saliency_map, [[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]], atol=1e-7)
