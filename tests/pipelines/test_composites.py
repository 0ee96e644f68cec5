from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_recnet.pipelines import CompositePair, Group, Pair, PipelineDataError, plan_composites
from keras_recnet.pipelines.composites import LARGEST_COVER, compose, mosaic, paste

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(color, shape=(60, 80), box=(20, 40, 30, 55)):
    """A gray image with a rectangle of one color, and its mask."""
    image, mask = np.full((*shape, 3), 128, np.uint8), np.zeros(shape, np.uint8)
    top, bottom, left, right = box
    image[top:bottom, left:right] = color
    mask[top:bottom, left:right] = 255
    return image, mask


def of_color(image, color):
    """Where an image has about this color."""
    return np.abs(image.astype(int) - color).max(-1) < 60


@pytest.mark.parametrize("seed", range(20))
def test_the_masks_of_a_mosaic_cover_the_objects(seed):
    image, first, second = mosaic(picture(RED), picture(BLUE), np.random.default_rng(seed), size=96)
    assert image.shape == (96, 96, 3)
    assert set(np.unique(first)) == set(np.unique(second)) == {0, 255}
    assert not ((first > 0) & (second > 0)).any()
    for mask, color in ((first, RED), (second, BLUE)):
        here = of_color(image, color)
        # edges are blended, so the area of the color is a little smaller than the mask
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


# Plans


def group(name, size, category=""):
    """A group of files that need not exist."""
    return Group(
        name, [Pair(f"{name}/{n}", Path(f"{name}{n}.jpg"), Path(f"{name}{n}.png")) for n in range(size)], (), category
    )


def test_a_composite_depends_on_its_number_and_the_seed_only():
    groups = [group("a", 3), group("b", 4), group("c", 5)]
    plans = plan_composites(groups, 20, seed=1)
    assert plan_composites(groups, 8, seed=1) == plans[:8]
    assert plan_composites(groups, 20, seed=2) != plans
    assert [plan.number for plan in plans] == list(range(20))


def test_categories_are_combined_in_proportion_to_the_root_of_their_size():
    # the categories x, y and z have 1, 4 and 16 images, y in two groups
    groups = [group("x", 1), group("y1", 2, "y"), group("y2", 2, "y"), group("z", 16)]
    weight = {"x": 1 / 7, "y": 2 / 7, "z": 4 / 7}
    counts = Counter(frozenset((c.first.name[0], c.second.name[0])) for c in plan_composites(groups, 4000))
    for a, b in combinations(weight, 2):  # drawn one after the other, without replacement
        expected = weight[a] * weight[b] * (1 / (1 - weight[a]) + 1 / (1 - weight[b]))
        assert counts[frozenset((a, b))] / 4000 == pytest.approx(expected, abs=0.03)
    assert set(counts) == {frozenset(pair) for pair in combinations(weight, 2)}


def test_an_image_is_never_combined_with_its_own_category():
    both = Pair("both", Path("a0.jpg"), Path("other.png"))  # the file of a/0, with the mask of another object
    groups = [group("a", 2), Group("b", (*group("b", 2).pairs, both)), group("c", 2)]
    partners = set()
    for composite in plan_composites(groups, 300):
        pairs = composite.first, composite.second
        assert pairs[0].name[0] != pairs[1].name[0]
        if any(pair.image == both.image for pair in pairs):
            partners |= {pair.name[0] for pair in pairs if pair.image != both.image}
    assert partners == {"c"}


def test_composites_require_two_categories():
    with pytest.raises(ValueError, match=r"images of two categories to combine\. Received: 1 categories, 5 images"):
        plan_composites([group("a", 2, "x"), group("b", 3, "x")], 1)
    assert plan_composites([group("a", 2)], 0) == []


def save(folder, name, image, mask):
    for kind, pixels in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")
    return Pair(name, folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png")


@pytest.mark.parametrize("number", range(6))
def test_a_composite_is_read_from_two_files_with_a_mask_per_object(tmp_path, number):
    # the second mask has half of the size of its image
    image, mask = picture(BLUE, (90, 70), (30, 50, 10, 60))
    pairs = save(tmp_path, "red", *picture(RED)), save(tmp_path, "blue", image, mask[::2, ::2])
    composite = CompositePair("both", *pairs, seed=3, number=number)
    image, first, second = composite.read(96)
    assert first.shape == second.shape == image.shape[:2]
    for mask, color in ((first, RED), (second, BLUE)):
        assert (of_color(image, color) & (mask > 0)).sum() > 0.9 * of_color(image, color).sum() > 0
    for array, again in zip((image, first, second), composite.read(96), strict=True):
        np.testing.assert_array_equal(array, again)


def test_without_a_visible_second_object_the_first_image_is_returned(tmp_path):
    image, mask = picture(RED)
    empty = save(tmp_path, "empty", picture(BLUE)[0], np.zeros_like(mask))
    composite = CompositePair("both", save(tmp_path, "red", image, mask), empty, seed=0, number=0).read(96)
    for array, expected in zip(composite, (image, mask, np.zeros_like(mask)), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_large_images_are_combined_at_a_limited_size(tmp_path):
    pairs = [save(tmp_path, name, *picture(RED, (600, 800), (200, 400, 300, 550))) for name in ("a", "b")]
    for number in range(8):
        assert max(CompositePair("both", *pairs, seed=0, number=number).read(64).image.shape) <= 128


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    pairs = [save(tmp_path, name, *picture(RED)) for name in ("a", "b")]
    pairs[1].image.write_bytes(b"")
    with pytest.raises(PipelineDataError, match=r"images/b\.png"):
        CompositePair("both", *pairs, seed=0, number=0).read(96)
