import numpy as np
import pytest
from PIL import Image

from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines import Augment

RANDOM = np.random.default_rng(0)
PICTURE = np.asarray(Image.fromarray(RANDOM.integers(0, 256, (6, 8, 4), np.uint8), "RGBX").resize((80, 60)))
GEOMETRY = {"brightness": 0, "contrast": 0, "saturation": 0}
STILL = {"flip": 0, "min_crop": 1}
MIDDLE = 0.5  # the draw that leaves a color as it is


def draws(flip=1.0, crop=(1, 1, 0, 0), brightness=MIDDLE, contrast=MIDDLE, saturation=MIDDLE):
    return np.array([flip, *crop, brightness, contrast, saturation], float)


# Geometry


@pytest.mark.parametrize("planes", [[PICTURE], [PICTURE[..., :3], PICTURE[..., 3]]], ids=["packed", "separate"])
def test_nothing_changes_when_everything_is_disabled(planes):
    image, mask = Augment(**STILL, **GEOMETRY)(planes, (60, 80), RANDOM.random(8))
    np.testing.assert_array_equal(image, PICTURE[..., :3])
    np.testing.assert_array_equal(mask, PICTURE[..., 3])


def test_image_and_mask_are_flipped_if_the_draw_is_below_the_probability():
    augment = Augment(flip=0.3, min_crop=1, **GEOMETRY)
    for flip, expected in ((0.29, PICTURE[:, ::-1]), (0.31, PICTURE)):
        image, mask = augment([PICTURE], (60, 80), draws(flip))
        np.testing.assert_array_equal(np.dstack([image, mask]), expected)


def test_height_and_width_are_cropped_independently():
    # Half of the height, starting at a quarter (top = 0.5 of the remaining half), and the full width.
    image, mask = Augment(min_crop=0.5, **GEOMETRY)([PICTURE], (30, 80), draws(crop=(0, 1, 0.5, 0.7)))
    np.testing.assert_array_equal(np.dstack([image, mask]), PICTURE[15:45])
    # Three quarters of the width, at the right.
    image, _ = Augment(min_crop=0.5, **GEOMETRY)([PICTURE], (60, 60), draws(crop=(1, 0.5, 0, 1)))
    np.testing.assert_array_equal(image, PICTURE[:, 20:, :3])


@pytest.mark.parametrize("mask_scale", [1, 2])
def test_image_and_mask_stay_aligned(mask_scale):
    y, x = np.mgrid[:120, :160]
    mask = np.rint(127.5 + 60 * np.sin(x / 15) + 60 * np.cos(y / 11)).astype(np.uint8)
    image = np.repeat(mask[..., None], 3, axis=-1)
    mask = resize(mask, (120 // mask_scale, 160 // mask_scale))
    planes = [np.dstack([image, mask])] if mask_scale == 1 else [image, mask]
    for row in RANDOM.random((50, Augment.DRAWS)):
        image, mask = Augment(**GEOMETRY)(planes, (48, 48), row)
        np.testing.assert_allclose(image[..., 0].astype(int), mask, atol=0 if mask_scale == 1 else 6)


# Color


def test_color_changes_do_not_affect_the_mask():
    for row in RANDOM.random((20, Augment.DRAWS)):
        image, mask = Augment(**STILL)([PICTURE], (60, 80), row)
        np.testing.assert_array_equal(mask, PICTURE[..., 3])
        assert (image != PICTURE[..., :3]).any()


def test_brightness_multiplies_the_values():
    image, _ = Augment(**STILL, brightness=0.5)([PICTURE], (60, 80), draws(brightness=0))
    np.testing.assert_allclose(image, PICTURE[..., :3] * 0.5, atol=1)
    image, _ = Augment(**STILL, brightness=0.5)([PICTURE], (60, 80), draws(brightness=1))
    np.testing.assert_allclose(image, np.minimum(PICTURE[..., :3] * 1.5, 255), atol=1)


def test_zero_contrast_gives_the_mean_gray():
    image, _ = Augment(**STILL, contrast=1)([PICTURE], (60, 80), draws(contrast=0))
    mean = PICTURE[..., :3].mean(axis=(0, 1)) @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(image, np.full((60, 80, 3), mean), atol=1)


def test_zero_saturation_gives_gray():
    image, _ = Augment(**STILL, saturation=1)([PICTURE], (60, 80), draws(saturation=0))
    gray = PICTURE[..., :3] @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(image, np.repeat(gray[..., None], 3, axis=-1), atol=1)


def test_the_three_color_changes_follow_the_formula():
    augment = Augment(**STILL, brightness=0.2, contrast=0.4, saturation=0.6)
    image, _ = augment([PICTURE], (60, 80), draws(brightness=0.25, contrast=0.75, saturation=0))
    x = PICTURE[..., :3].astype(float)
    luma = np.array([0.299, 0.587, 0.114])
    m = (x @ luma).mean()
    saturated = 0.4 * x + 0.6 * (x @ luma)[..., None]
    # OpenCV computes in fixed point.
    np.testing.assert_allclose(image, np.clip(0.9 * (1.2 * (saturated - m) + m), 0, 255), atol=1)


@pytest.mark.parametrize(
    "bad", [{"flip": 1.1}, {"min_crop": 0}, {"min_crop": 1.2}, {"brightness": -0.1}, {"contrast": 2}, {"saturation": 9}]
)
def test_values_out_of_range_raise_errors(bad):
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be in .* Received"):
        Augment(**bad)
