import itertools
import re

import numpy as np
import pytest

from keras_recnet.imaging.cropping import crop_box

SIZE = (100, 200)  # (height, width)


@pytest.mark.parametrize(
    ("box", "options", "expected"),
    [
        # 3 % of the longer side, 50, is 1.5, rounded to 2
        ((50, 40, 100, 60), {}, (48, 38, 102, 62)),
        ((50, 40, 100, 60), {"margin": 0}, (50, 40, 100, 60)),
        ((50, 40, 100, 60), {"margin": 0.2}, (40, 30, 110, 70)),
        # the margin is cut off at the edges
        ((2, 0, 102, 100), {"margin": 0.1}, (0, 0, 112, 100)),
        # one pixel
        ((199, 99, 200, 100), {}, (199, 99, 200, 100)),
        ((199, 99, 200, 100), {"margin": 2}, (197, 97, 200, 100)),
        ((199, 99, 200, 100), {"aspect": 1}, (199, 99, 200, 100)),
        ((10, 10, 11, 11), {"aspect": 4}, (8, 10, 12, 11)),
        # 50 × 20 grows to 50 × 50 around its center (75, 50), or to 80 × 20
        ((50, 40, 100, 60), {"margin": 0, "aspect": 1}, (50, 25, 100, 75)),
        ((50, 40, 100, 60), {"margin": 0, "aspect": 4}, (35, 40, 115, 60)),
        ((50, 40, 100, 60), {"margin": 0.1, "aspect": 4 / 3}, (45, 28, 105, 73)),  # 60 × 45
        # moved inside
        ((0, 80, 40, 100), {"margin": 0, "aspect": 1}, (0, 60, 40, 100)),
        ((150, 0, 200, 20), {"margin": 0, "aspect": 1}, (150, 0, 200, 50)),
        # too large: the largest crop of this aspect ratio
        ((0, 10, 150, 90), {"margin": 0, "aspect": 1}, (25, 0, 125, 100)),
        ((100, 10, 200, 90), {"margin": 0.5, "aspect": 1}, (100, 0, 200, 100)),
        ((0, 0, 200, 100), {"aspect": 2}, (0, 0, 200, 100)),
        ((0, 0, 200, 100), {}, (0, 0, 200, 100)),
        # no object
        (None, {}, (0, 0, 200, 100)),
        (None, {"aspect": 1}, (50, 0, 150, 100)),
        (None, {"aspect": 4}, (0, 25, 200, 75)),
    ],
)
def test_the_crop_is_around_the_object(box, options, expected):
    assert crop_box(box, SIZE, **options) == expected


def test_a_crop_is_never_outside_the_photo_and_has_its_aspect_ratio():
    random = np.random.default_rng(0)
    ratios = (0.01, 0.5, 3 / 4, 1, 4 / 3, 1.91, 70)
    for margin, aspect, _ in itertools.product((0, 0.03, 0.7, 5), ratios, range(20)):
        height, width = random.integers(1, 90, 2).tolist()
        left, top = int(random.integers(width)), int(random.integers(height))
        box = (left, top, int(random.integers(left + 1, width + 1)), int(random.integers(top + 1, height + 1)))
        left, top, right, bottom = crop_box(box, (height, width), margin=margin, aspect=aspect)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        # within a pixel: a crop that is a pixel wider and flatter, or narrower and taller, is on the other side
        assert (right - left - 1) / (bottom - top + 1) <= aspect or bottom - top == 1 or right - left == 1
        assert (right - left + 1) / max(1, bottom - top - 1) >= aspect or right - left == width or bottom - top == 1
        if (width, height) == (right - left, bottom - top):
            continue
        centered = (left + right - box[0] - box[2]) / 2, (top + bottom - box[1] - box[3]) / 2
        assert abs(centered[0]) <= 1 or left == 0 or right == width
        assert abs(centered[1]) <= 1 or top == 0 or bottom == height


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"margin": float("nan")}, {"aspect": 0}, {"aspect": -1.0}])
def test_a_wrong_margin_or_aspect_ratio_is_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=re.escape(f"Received: {name}={value!r}")):
        crop_box((0, 0, 1, 1), SIZE, **options)
