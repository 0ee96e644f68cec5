import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path):
    """`images` and `masks`, two empty folders."""
    made = tmp_path / "images", tmp_path / "masks"
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture
def save_pair(folders):
    """Saves a pair of noise and a disc: `save_pair(name, size=(width, height))`."""

    def save(name, size=(40, 30), image_extension=".jpg", mask_extension=".png"):
        width, height = size
        # One seed a name, so that every test sees the same pictures whatever it saves before.
        random = np.random.default_rng(list(name.encode()))
        image = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8)).resize(size)
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 3) ** 2 < (height / 3) ** 2
        mask = Image.fromarray((disc * 255).astype(np.uint8))
        for folder, extension, picture in zip(folders, (image_extension, mask_extension), (image, mask), strict=True):
            path = folder / f"{name}{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)

    return save
