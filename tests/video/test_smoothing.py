import numpy as np
import pytest

from keras_recnet.video.smoothing import STRENGTH, TOLERANCE, MapSmoother


def test_the_first_map_and_equal_maps_stay_as_they_are():
    smooth, saliency_map = MapSmoother(), np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(smooth(saliency_map), saliency_map)
    np.testing.assert_array_equal(smooth(saliency_map), saliency_map)


def test_a_difference_of_the_tolerance_is_blended_with_the_strength_divided_by_e():
    smooth = MapSmoother()
    smooth(np.array([[0.5, 0.5]], np.float32))
    expected = 0.5 + TOLERANCE * (1 - STRENGTH / np.e)
    assert smooth(np.array([[0.5, 0.5 + TOLERANCE]], np.float32)) == pytest.approx(np.array([[0.5, expected]]))


def test_flicker_is_reduced_and_a_moved_object_leaves_no_trail():
    random = np.random.default_rng(0)
    smooth = MapSmoother()
    flickering = [np.float32(0.5) + random.normal(0, 0.05, (20, 20)).astype(np.float32) for _ in range(20)]
    smoothed = [smooth(saliency_map) for saliency_map in flickering]
    assert np.std(smoothed[5:]) < 0.7 * np.std(flickering[5:])
    smooth = MapSmoother()
    smooth(np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(smooth(np.eye(4, dtype=np.float32)[::-1]), np.eye(4)[::-1], atol=1e-6)
