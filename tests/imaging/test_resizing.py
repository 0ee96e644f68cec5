import numpy as np
import pytest
from PIL import Image

from keras_recnet.imaging.resizing import resize, resize_map

RANDOM = np.random.default_rng(0)
IMAGE = np.asarray(Image.fromarray(RANDOM.integers(0, 256, (6, 8, 4), np.uint8), "RGBX").resize((80, 60)))


@pytest.mark.parametrize("size", [(7, 9), (5, 40), (90, 3), (64, 64), (301, 120), (1, 1)])
def test_resize_map_matches_pillow(size):
    saliency_map = np.random.default_rng(0).random((16, 16), np.float32)
    expected = Image.fromarray(saliency_map).resize(size[::-1], Image.Resampling.BILINEAR)
    resized = resize_map(saliency_map, size)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, np.asarray(expected), atol=1e-6)


def test_resize_map_clips_to_0_and_1():
    resized = resize_map(np.array([[-1e-3, 1 + 1e-3]], np.float32), (5, 8))
    assert resized.min() == 0.0
    assert resized.max() == 1.0


@pytest.mark.parametrize("size", [(30, 40), (13, 50), (120, 100), (60, 80)])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_resize_matches_pillow_and_tensorflow(size, channels):
    tf = pytest.importorskip("tensorflow")
    array = IMAGE[..., 0] if channels is None else IMAGE[..., :channels]
    resized = resize(array, size)
    assert resized.shape == (*size, *array.shape[2:])
    planes = array.reshape(60, 80, -1)
    for plane, actual in zip(np.moveaxis(planes, -1, 0), np.moveaxis(resized.reshape(*size, -1), -1, 0), strict=True):
        np.testing.assert_array_equal(actual, Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        expected = tf.image.resize(plane[..., None].astype("float32"), size, antialias=True)[..., 0]
        np.testing.assert_allclose(actual, expected, atol=1.01)


def test_resize_crops_to_the_box():
    np.testing.assert_array_equal(resize(IMAGE, (15, 20), (0.25, 0.5, 0.5, 0.75)), IMAGE[30:45, 20:40])


def test_resize_does_not_copy_an_image_that_already_has_the_size():
    rgb = np.zeros((4, 5, 3), np.uint8)
    assert resize(rgb, (4, 5)) is rgb
    assert resize(rgb, (8, 6)).shape == (8, 6, 3)
