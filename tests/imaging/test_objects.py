import numpy as np
import pytest

from keras_recnet.imaging.objects import fill_holes, largest_object, object_box, object_center


def drawn(*rows):
    """A map with a value per character, 0…9 for 0.0…0.9 and # for 1."""
    return np.array([[1 if pixel == "#" else int(pixel) / 10 for pixel in row] for row in rows], np.float32)


def test_the_box_contains_all_pixels_of_at_least_one_half():
    assert object_box(drawn("00000", "00050", "0#000", "04000")) == (1, 1, 4, 3)


def test_the_box_of_one_pixel_and_of_the_whole_image():
    assert object_box(drawn("000", "00#")) == (2, 1, 3, 2)
    assert object_box(np.ones((3, 4), np.float32)) == (0, 0, 4, 3)


def test_an_empty_map_has_neither_box_nor_center():
    assert object_box(drawn("044", "000")) is None
    assert object_center(drawn("044", "000")) is None


def test_the_center_is_weighted_by_the_values_of_the_object():
    assert object_center(drawn("000", "00#")) == (2.5, 1.5)
    # (1.0 · 0.5 + 0.5 · 3.5) / 1.5 = 1.5; the value 0.4 is not part of the object
    assert object_center(drawn("#005", "4000")) == pytest.approx((1.5, 0.5))


def test_the_largest_object_keeps_its_soft_edge_and_the_others_vanish_with_theirs():
    one = drawn("4800000354", "4#00000393")
    np.testing.assert_array_equal(largest_object(drawn("4800000354", "4#00000300")), drawn("4800000000", "4#00000000"))
    # two objects of two pixels: the first one is kept
    np.testing.assert_array_equal(largest_object(one), drawn("4800000000", "4#00000000"))


def test_pixels_that_touch_at_a_corner_are_one_object():
    diagonal = drawn("#00000", "0#0000", "00#000", "000000", "0000##")
    np.testing.assert_array_equal(largest_object(diagonal), drawn("#00000", "0#0000", "00#000", "000000", "000000"))


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_map_stays_as_it_is(value):
    constant = np.full((5, 6), value, np.float32)
    np.testing.assert_array_equal(largest_object(constant), constant)
    np.testing.assert_array_equal(fill_holes(constant), constant)


def test_a_hole_is_filled_with_its_rim():
    # the inner rim of 0.7 becomes 1, the outer rim of 0.6 stays
    ring = drawn(
        "0000000000000",
        "0666666666660",
        "06#########60",
        "06##77777##60",
        "06##74247##60",
        "06##72027##60",
        "06##74247##60",
        "06##77777##60",
        "06#########60",
        "0666666666660",
        "0000000000000",
    )
    filled = np.where(ring > 0.65, 1, ring)
    filled[3:8, 4:9] = 1
    np.testing.assert_array_equal(fill_holes(ring), filled.astype(np.float32))


def test_an_opening_at_a_side_or_a_corner_is_not_a_hole():
    bay = drawn("00000", "0###0", "0#000", "0###0", "00000")
    np.testing.assert_array_equal(fill_holes(bay), bay)
    diagonal = drawn("00000", "0###0", "0#0#0", "0##00", "00000")
    np.testing.assert_array_equal(fill_holes(diagonal), diagonal)
    at_the_border = drawn("#0#", "###")
    np.testing.assert_array_equal(fill_holes(at_the_border), at_the_border)


def test_an_object_at_all_borders_encloses_a_hole():
    np.testing.assert_array_equal(fill_holes(drawn("####", "#00#", "####")), np.ones((3, 4), np.float32))


def test_the_results_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    random = np.random.default_rng(0)
    for _ in range(20):
        saliency_map = ndimage.gaussian_filter(random.random((60, 80), np.float32), 2)
        saliency_map = (saliency_map - saliency_map.min()) / np.ptp(saliency_map)
        objects, count = ndimage.label(saliency_map >= 0.5, np.ones((3, 3)))
        sizes = ndimage.sum_labels(objects > 0, objects, np.arange(1, count + 1))
        if (sizes == sizes.max()).sum() == 1:
            np.testing.assert_array_equal(largest_object(saliency_map) >= 0.5, objects == sizes.argmax() + 1)
        filled = ndimage.binary_fill_holes(saliency_map >= 0.5, np.ones((3, 3)))
        np.testing.assert_array_equal(fill_holes(saliency_map) >= 0.5, filled)


@pytest.mark.parametrize("shape", [(40, 2), (2, 40), (1, 1), (30, 50)])
def test_the_center_of_a_constant_map_is_that_of_the_image(shape):
    center = object_center(np.full(shape, 0.8, np.float32))
    assert center == pytest.approx((shape[1] / 2, shape[0] / 2))
