"""One Ray session for all tests of the bulk prediction."""

import os

import pytest
from PIL import Image

from keras_recnet.bulk import cluster


@pytest.fixture(scope="session")
def ray_session():
    """Start Ray on this machine; commands that the tests run use this session."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        with cluster.connected(None):
            yield ray


@pytest.fixture
def links(save_photo, tmp_path):
    """Function that creates a folder with links to three small images: `links(count)`."""

    def links(count):
        photos = [save_photo(f"originals/{number}.jpg", (40 + 8 * number, 60), quality=90) for number in range(3)]
        folder = tmp_path / "photos"
        folder.mkdir()
        for number in range(count):
            os.link(photos[number % 3], folder / f"{number:04d}.jpg")
        return folder

    return links


@pytest.fixture(autouse=True)
def _pillows_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
