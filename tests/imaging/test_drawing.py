import numpy as np
import pytest

from keras_recnet.imaging import drawing

MAP = np.array([[0.0, 0.1, 0.2], [0.5, 0.95, 1.0]], np.float32)


def test_eight_bits_are_rounded():
    np.testing.assert_array_equal(drawing.to_8_bits(MAP), [[0, 26, 51], [128, 242, 255]])


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.5, [[0, 0, 0], [255, 255, 255]]),
        (0.97, [[0, 0, 0], [0, 0, 255]]),
        (0, [[255, 255, 255], [255, 255, 255]]),
        ("adaptive", [[0, 0, 0], [0, 255, 255]]),  # 2 × 0.458
    ],
)
def test_binary_is_255_where_the_map_reaches_the_threshold(threshold, expected):
    np.testing.assert_array_equal(drawing.binary(MAP, threshold), expected)


def test_the_adaptive_threshold_never_exceeds_one():
    assert drawing.binary(np.full((2, 2), 1.0, np.float32), "adaptive").all()


def test_the_heatmap_is_rgb_and_grows_brighter():
    colors = drawing.heatmap(np.array([[0.0, 0.4, 1.0]], np.float32)).astype(int)
    assert colors[0, 0].sum() < 10
    assert colors[0, 1, 0] > colors[0, 1, 2]  # red and blue are not exchanged
    assert colors[0, 2].sum() > 600


def test_the_overlay_is_half_photo_half_heatmap():
    rgb = np.full((2, 3, 3), 100, np.uint8)
    expected = (100 + drawing.heatmap(MAP).astype(float)) / 2
    np.testing.assert_allclose(drawing.overlay(rgb, MAP), expected, atol=0.5)


def test_attention_is_brightest_at_the_largest_weight_and_the_pixel_has_a_ring():
    weights = np.zeros((4, 4))
    weights[3, 3] = 1e-4
    drawn = drawing.attention(np.zeros((80, 80, 3), np.uint8), weights, (10, 10)).astype(int)
    assert drawn[70, 70].sum() > 250
    assert drawn[30, 30].sum() < 5
    assert drawn[10:14, 10:14].max() > 200


def test_attention_without_any_weight_is_dark():
    assert drawing.attention(np.zeros((80, 80, 3), np.uint8), np.zeros((4, 4)), (10, 10))[40:].max() < 5
