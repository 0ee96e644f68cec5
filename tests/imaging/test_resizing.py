import numpy as np
import pytest
from PIL import Image

from keras_recnet.imaging.resizing import resize_map, resize_rgb


@pytest.mark.parametrize("size", [(7, 9), (5, 40), (90, 3), (64, 64), (301, 120), (1, 1)])
def test_maps_are_resized_as_pillow_does(size):
    saliency_map = np.random.default_rng(0).random((16, 16), np.float32)
    expected = Image.fromarray(saliency_map).resize(size[::-1], Image.Resampling.BILINEAR)
    resized = resize_map(saliency_map, size)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, np.asarray(expected), atol=1e-6)


def test_maps_stay_in_their_range():
    resized = resize_map(np.array([[-1e-3, 1 + 1e-3]], np.float32), (5, 8))
    assert resized.min() == 0.0
    assert resized.max() == 1.0


def test_a_picture_of_the_right_size_is_not_touched():
    rgb = np.zeros((4, 5, 3), np.uint8)
    assert resize_rgb(rgb, (4, 5)) is rgb
    assert resize_rgb(rgb, (8, 6)).shape == (8, 6, 3)
