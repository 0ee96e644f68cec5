import numpy as np
import pytest
from PIL import Image

from keras_recnet.imaging.cutout import cutout, on_background

RED, GREEN = np.array([220, 30, 20]), np.array([20, 200, 60])


def scene(side, softness=2.0):
    """A red disk with a soft rim on green, and its true alpha."""
    rows, columns = np.mgrid[:side, :side] - side / 2 + 0.5
    distance = side * 0.3 - np.hypot(rows, columns)
    alpha = np.clip(distance / softness + 0.5, 0, 1)
    return np.rint(alpha[..., None] * RED + (1 - alpha[..., None]) * GREEN).astype(np.uint8), alpha


def coarse(alpha, side=64):
    """The map of a network with a small input size: blurred, and off by some pixels."""
    small = Image.fromarray(alpha.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    large = np.asarray(small.resize(alpha.shape[::-1], Image.Resampling.BILINEAR))
    return np.roll(large, alpha.shape[0] // 100, axis=1)


@pytest.mark.parametrize("side", [200, 1500])
def test_alpha_is_finer_than_the_map(side):
    rgb, alpha = scene(side)
    saliency_map = coarse(alpha)
    rgba = cutout(rgb, saliency_map)
    assert rgba.shape == (side, side, 4)
    error = np.abs(rgba[..., 3] / 255 - alpha).mean()
    assert error < 0.3 * np.abs(saliency_map - alpha).mean()
    assert (rgba[..., 3] == 255).mean() > 0.25
    assert (rgba[..., 3] == 0).mean() > 0.65


def test_semitransparent_pixels_lose_the_background_color():
    rgb, alpha = scene(240, softness=10)
    rgba = cutout(rgb, alpha.astype(np.float32)).astype(int)
    rim = (rgba[..., 3] > 80) & (rgba[..., 3] < 200)
    assert rim.sum() > 300
    assert np.abs(rgb[rim] - RED).mean() > 50
    assert np.abs(rgba[rim][:, :3] - RED).mean() < 15


def test_opaque_pixels_keep_their_color_exactly():
    rgb = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    rgba = cutout(rgb, np.ones((60, 70), np.float32))
    assert (rgba[..., 3] == 255).all()
    np.testing.assert_array_equal(rgba[..., :3], rgb)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_an_empty_map_gives_a_fully_transparent_cutout(size):
    rgba = cutout(np.full((*size, 3), 200, np.uint8), np.zeros(size, np.float32))
    assert not rgba.any()


def test_existing_transparency_is_kept():
    rgb, alpha = scene(120)
    own = np.full((120, 120), 255, np.uint8)
    own[:, :60] = 0
    rgba = cutout(rgb, alpha.astype(np.float32), own)
    assert not rgba[:, :60].any()
    assert rgba[60, 65, 3] == 255


def test_chunks_of_rows_have_no_seams():
    rgb, alpha = scene(600)
    upright = cutout(rgb, coarse(alpha)).astype(int)
    lying = cutout(np.ascontiguousarray(rgb.transpose(1, 0, 2)), np.ascontiguousarray(coarse(alpha).T))
    assert np.abs(upright - lying.transpose(1, 0, 2)).max() <= 2


def test_a_cutout_is_composited_on_a_color():
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)
    np.testing.assert_array_equal(on_background(rgba, (0, 100, 0)), [[[200, 0, 0], [0, 100, 0], [40, 80, 0]]])


@pytest.mark.parametrize("size", [(10, 30), (60, 20), (7, 200)])
def test_a_background_image_covers_the_cutout_and_is_center_cropped(size):
    image = np.zeros((*size, 3), np.uint8)
    image[size[0] // 2, size[1] // 2] = 255
    laid = on_background(np.zeros((20, 20, 4), np.uint8), image)
    assert laid.shape == (20, 20, 3)
    brightest = np.unravel_index(laid[..., 0].argmax(), (20, 20))
    assert np.abs(np.array(brightest) - 10).max() <= 2


def test_a_narrow_background_is_cropped_before_it_is_resized():
    rgba = np.zeros((300, 400, 4), np.uint8)
    background = np.zeros((20_000, 1, 3), np.uint8)
    background[9_990:10_010] = 200  # enlarged as a whole, it would have ten billion values
    assert (on_background(rgba, background) == 200).all()
