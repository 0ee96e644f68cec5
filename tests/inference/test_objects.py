import re

import numpy as np
import pytest
from PIL import Image

import keras_recnet
from keras_recnet.errors import ImageError


def numbered(height, width):
    """An RGB image in which every pixel has its own color: (row, column, 7)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def map_of(size, *boxes, value=1.0):
    saliency_map = np.zeros(size, np.float32)
    for left, top, right, bottom in boxes:
        saliency_map[top:bottom, left:right] = value
    return saliency_map


def test_a_crop_has_the_pixels_of_the_image():
    photo = numbered(40, 60)
    cropped = keras_recnet.crop(photo, map_of((40, 60), (10, 20, 30, 25)), margin=0.1)
    np.testing.assert_array_equal(cropped, photo[18:27, 8:32])
    square = keras_recnet.crop(photo, map_of((40, 60), (10, 20, 30, 25)), margin=0, aspect=1)
    np.testing.assert_array_equal(square, photo[12:32, 10:30])  # 20 × 20 around (20, 22.5)


def test_an_image_without_an_object_is_cropped_only_to_the_aspect_ratio():
    photo = numbered(40, 60)
    np.testing.assert_array_equal(keras_recnet.crop(photo, map_of((40, 60))), photo)
    np.testing.assert_array_equal(keras_recnet.crop(photo, map_of((40, 60)), aspect=1), photo[:, 10:50])


def test_the_largest_of_two_objects_is_cropped():
    photo, two = numbered(40, 60), map_of((40, 60), (2, 3, 12, 13), (40, 30, 44, 34))
    np.testing.assert_array_equal(keras_recnet.crop(photo, two, margin=0), photo[3:34, 2:44])
    np.testing.assert_array_equal(keras_recnet.crop(photo, two, margin=0, largest=True), photo[3:13, 2:12])


def test_a_rotated_photo_is_cropped_upright(tmp_path):
    photo = numbered(40, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise by 90 degrees to show the image
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    cropped = keras_recnet.crop(tmp_path / "turned.png", map_of((60, 40), (5, 10, 15, 30)), margin=0)
    np.testing.assert_array_equal(cropped, np.rot90(photo, -1)[10:30, 5:15])


def test_a_transparent_image_is_cropped_on_white_and_a_deep_one_in_8_bits():
    rgba = np.dstack([numbered(40, 60), np.zeros((40, 60), np.uint8)])
    box = map_of((40, 60), (0, 0, 5, 5))
    np.testing.assert_array_equal(keras_recnet.crop(rgba, box, margin=0), np.full((5, 5, 3), 255))
    deep = numbered(40, 60)[..., 1].astype(np.uint16) * 256 + 200
    np.testing.assert_array_equal(
        keras_recnet.crop(deep, box, margin=0), np.broadcast_to(np.arange(5)[:, None], (5, 5, 3))
    )


def test_a_crop_does_not_share_memory_with_the_image():
    photo = numbered(4, 4)
    keras_recnet.crop(photo, np.ones((4, 4), np.float32))[:] = 255
    np.testing.assert_array_equal(photo, numbered(4, 4))


def test_a_cutout_is_opaque_inside_the_object_and_transparent_outside():
    photo = np.full((80, 80, 3), (20, 60, 200), np.uint8)
    photo[20:60, 20:60] = (240, 150, 30)
    square = map_of((80, 80), (20, 20, 60, 60))
    square[35:45, 35:45] = 0
    rgba = keras_recnet.cutout(photo, square)
    np.testing.assert_array_equal(rgba[25, 25], (240, 150, 30, 255))
    np.testing.assert_array_equal(rgba[5, 5], (0, 0, 0, 0))
    np.testing.assert_array_equal(rgba[40, 40], (0, 0, 0, 0))
    filled = keras_recnet.cutout(photo, square, fill_holes=True)
    assert (filled[25:55, 25:55, 3] == 255).all()


def test_a_cutout_keeps_the_largest_object():
    photo = np.full((80, 80, 3), 90, np.uint8)
    rgba = keras_recnet.cutout(photo, map_of((80, 80), (5, 5, 40, 40), (60, 60, 70, 70)), largest=True)
    assert rgba[20, 20, 3] == 255
    assert not rgba[50:, 50:].any()


def test_without_a_map_the_shipped_preset_predicts_it(photographs):
    photo = next(path for path in photographs if path.stem == "flower")
    saliency_map = keras_recnet.saliency(photo)
    np.testing.assert_array_equal(keras_recnet.crop(photo), keras_recnet.crop(photo, saliency_map))
    np.testing.assert_array_equal(keras_recnet.cutout(photo), keras_recnet.cutout(photo, saliency_map))


@pytest.mark.parametrize("function", [keras_recnet.crop, keras_recnet.cutout])
def test_a_map_of_another_size_and_a_broken_image_are_refused(function):
    with pytest.raises(ValueError, match=re.escape("(40, 60). Received: shape=(60, 40)")):
        function(numbered(40, 60), np.zeros((60, 40), np.float32))
    with pytest.raises(ImageError, match="not an image of a known format"):
        function(b"some text")
