"""Small synthetic map and mask pairs."""

import numpy as np
import pytest
from PIL import Image


def draw(seed, size=(36, 48)):
    """Draw a mask of one or two ellipses, bool `(H, W)`, and a soft, shifted and noisy map, uint8 `(H, W)`."""
    random = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    distance = np.full(size, np.inf)
    for _ in range(random.integers(1, 3)):
        row, column = random.uniform(0.25, 0.75, 2) * size
        radii = random.uniform(0.12, 0.3, 2) * size
        distance = np.minimum(distance, np.hypot((rows - row) / radii[0], (columns - column) / radii[1]))
    shifted = np.roll(distance, random.integers(-3, 4, 2), (0, 1))
    soft = 1 / (1 + np.exp(random.uniform(3, 9) * (shifted - random.uniform(0.8, 1.2))))
    soft = 0.05 + 0.8 * soft + random.normal(0, random.uniform(0.01, 0.08), size)
    return distance < 1, np.rint(np.clip(soft, 0, 1) * 255).astype(np.uint8)


def save(array, path):
    """Write an array as an image file, in the format of the suffix; bool becomes 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array).save(path)
    return path


@pytest.fixture
def make_set(tmp_path):
    """Write a dataset: `make_set(names, methods=…)` → folder with `masks`, `maps/METHOD` and `images`."""

    def make(names, *, methods=("ours",), size=(36, 48), folder=tmp_path / "set", images=False):
        for number, name in enumerate(names):
            mask, saliency = draw(number, size)
            save(mask, folder / "masks" / f"{name}.png")
            for index, method in enumerate(methods):
                other = saliency if index == 0 else draw(number + 1000 * index, size)[1] // 2 + saliency // 2
                save(other, folder / "maps" / method / f"{name}.png")
            if images:
                photo = np.where(mask[..., None], (220, 120, 40), (30, 70, 80)).astype(np.uint8)
                save(photo, folder / "images" / f"{name}.jpg")
        return folder

    return make
