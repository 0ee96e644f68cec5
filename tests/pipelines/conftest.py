import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path):
    """Two empty folders, `images` and `masks`."""
    paths = tmp_path / "images", tmp_path / "masks"
    for folder in paths:
        folder.mkdir()
    return paths


@pytest.fixture
def save_pair(folders):
    """Function that saves a noise image and the mask of a disc: `save_pair(name, size=(width, height))`."""

    def save(name, size=(40, 30), image_extension=".jpg", mask_extension=".png"):
        width, height = size
        # One seed per name, so that a test's images do not depend on those saved before.
        random = np.random.default_rng(list(name.encode()))
        image = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8)).resize(size)
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (height / 3) ** 2
        mask = Image.fromarray((disc * 255).astype(np.uint8))
        for folder, extension, array in zip(folders, (image_extension, mask_extension), (image, mask), strict=True):
            path = folder / f"{name}{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            array.save(path)

    return save
