import numpy as np
import pytest

from keras_recnet.pipelines.composites import LARGEST_COVER, compose, mosaic, paste

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(color, shape=(60, 80), box=(20, 40, 30, 55)):
    """A grey image with a rectangle of one colour, and its mask."""
    image, mask = np.full((*shape, 3), 128, np.uint8), np.zeros(shape, np.uint8)
    top, bottom, left, right = box
    image[top:bottom, left:right] = color
    mask[top:bottom, left:right] = 255
    return image, mask


def of_color(image, color):
    """Where an image has about this colour."""
    return np.abs(image.astype(int) - color).max(-1) < 60


@pytest.mark.parametrize("seed", range(20))
def test_the_masks_of_a_mosaic_cover_the_objects(seed):
    image, first, second = mosaic(picture(RED), picture(BLUE), np.random.default_rng(seed), size=96)
    assert image.shape == (96, 96, 3)
    assert set(np.unique(first)) == set(np.unique(second)) == {0, 255}
    assert not ((first > 0) & (second > 0)).any()
    for mask, color in ((first, RED), (second, BLUE)):
        here = of_color(image, color)
        # edges are blended, so the colour alone is a little smaller than the mask
        assert (here & (mask > 0)).sum() >= 0.98 * here.sum()
        assert (mask > 0).sum() <= 1.15 * here.sum()
        assert here.mean() > 0.02


@pytest.mark.parametrize("seed", range(20))
def test_the_masks_of_a_paste_cover_the_objects(seed):
    target, source = picture(RED), picture(BLUE, (90, 70), (30, 50, 10, 60))
    image, first, second = paste(target, source, np.random.default_rng(seed))
    assert image.shape == target[0].shape
    assert not ((first > 0) & (second > 0)).any()
    assert (of_color(image, RED) == (first > 0)).mean() > 0.98
    assert (of_color(image, BLUE) == (second > 0)).mean() > 0.98
    assert (first > 0).sum() >= (1 - LARGEST_COVER) * (target[1] > 0).sum() - 1


def test_the_target_outside_of_a_pasted_object_is_unchanged():
    target, source = picture(RED), picture(BLUE)
    image, _, second = paste(target, source, np.random.default_rng(0))
    ys, xs = np.nonzero(second)
    outside = np.ones(second.shape, bool)
    outside[max(ys.min() - 1, 0) : ys.max() + 2, max(xs.min() - 1, 0) : xs.max() + 2] = False
    either = [(image == base)[outside].all() for base in (target[0], target[0][:, ::-1])]
    assert any(either)


def test_the_inputs_are_unchanged():
    target, source = picture(RED), picture(BLUE)
    copies = [array.copy() for array in (*target, *source)]
    for kind in ("mosaic", "paste"):
        compose(target, source, np.random.default_rng(1), kinds=(kind,), size=64)
    for array, copy in zip((*target, *source), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_equal_seeds_give_equal_composites():
    one, other = (compose(picture(RED), picture(BLUE), np.random.default_rng(7), size=64) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_kinds_are_drawn():
    sizes = {
        compose(picture(RED), picture(BLUE), np.random.default_rng(seed), size=64).image.shape for seed in range(20)
    }
    assert sizes == {(64, 64, 3), (60, 80, 3)}


def test_an_object_that_is_cut_off_is_not_pasted():
    cut = picture(BLUE, box=(0, 60, 30, 55))
    assert paste(picture(RED), cut, np.random.default_rng(0)) is None
    assert compose(picture(RED), cut, np.random.default_rng(0), kinds=("paste",)) is None
    assert compose(picture(RED), cut, np.random.default_rng(0), size=64).image.shape == (64, 64, 3)


@pytest.mark.parametrize("which", [0, 1])
def test_an_empty_mask_gives_no_composite(which):
    pair = [picture(RED), picture(BLUE)]
    pair[which] = (pair[which][0], np.zeros_like(pair[which][1]))
    assert compose(*pair, np.random.default_rng(0)) is None
