import numpy as np
import PIL
import pytest
import tensorflow as tf
from PIL import Image

from keras_recnet.export import sample_images
from keras_recnet.export.savedmodel.resizing import resize_rgb

SIZE = (64, 96)


def by_pillow(rgb):
    return np.asarray(Image.fromarray(rgb).resize(SIZE[::-1], Image.Resampling.BILINEAR))


@pytest.mark.parametrize("size", sample_images.image_sizes(SIZE))
def test_halved_and_doubled_sides_equal_pillow(size):
    rgb = sample_images.draw(size)
    np.testing.assert_array_equal(resize_rgb(rgb, SIZE), by_pillow(rgb))


columns_first = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older versions resize rows first")


@pytest.mark.parametrize(
    "size",
    [
        (1, 1),
        (37, 53),
        (64, 41),
        (97, 131),
        (375, 500),
        pytest.param((70, 90), marks=columns_first),
        pytest.param((1200, 110), marks=columns_first),
    ],
)
def test_other_sizes_equal_pillow_except_for_rounded_halves(size):
    rgb = sample_images.draw(size)
    resized = resize_rgb(tf.constant(rgb), SIZE).numpy()
    assert resized.dtype == np.float32
    differences = np.abs(resized - by_pillow(rgb))
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.03
    of_floats = resize_rgb(tf.constant([rgb, 255 - rgb], tf.float32), SIZE)
    np.testing.assert_array_equal(of_floats[0], resized)
