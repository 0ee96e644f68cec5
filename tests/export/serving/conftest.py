"""A tiny RecNet, served by the fake server in a separate process."""

import runpy
from pathlib import Path

import numpy as np
import pytest

FAKE_SERVER = Path(__file__).parent / "fake_server"

# a timeout long enough to batch the requests that a test sends at the same time
BATCHING = """
max_batch_size { value: 12 }
batch_timeout_micros { value: 150000 }
max_enqueued_batches { value: 16 }
num_batch_threads { value: 2 }
"""


@pytest.fixture(scope="session")
def tiny_export(tiny_model, tmp_path_factory):
    """A folder with version 1 of the tiny RecNet's SavedModel, with only `serving_default` and `encoded`.

    Images of more than 100,000 pixels are too large for it.
    """
    from keras_recnet.export import sample_images
    from keras_recnet.export.savedmodel import signatures, writing

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    served = signatures.build(tiny_model, max_pixels=100_000)
    functions = {name: served[name] for name in ("serving_default", "encoded")}
    writing.write(tiny_model, functions, folder / "1", sample_images.draw((240, 320)))
    return folder


@pytest.fixture(scope="session")
def start_server():
    """`start` of `fake_server/starting.py`."""
    return runpy.run_path(str(FAKE_SERVER / "starting.py"))["start"]


@pytest.fixture(scope="session")
def server(tiny_export, start_server, tmp_path_factory):
    """The fake server, with batching."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "batching.config").write_text(BATCHING)
    with (
        open(folder / "log.txt", "w") as log,
        start_server(batching=folder / "batching.config", log=log, tiny=tiny_export) as running,
    ):
        yield running
        assert running.runs(), (folder / "log.txt").read_text()


@pytest.fixture(scope="module", params=["rest", "grpc"])
def client(request, server):
    """A client connected to the server, one per protocol."""
    from keras_recnet.export.serving.grpc_client import GrpcClient
    from keras_recnet.export.serving.rest_client import RestClient

    unconnected = RestClient("tiny", server.url) if request.param == "rest" else GrpcClient("tiny", server.target)
    with unconnected as connected:
        connected.wait_until_ready(30)
        yield connected


@pytest.fixture(scope="session")
def assert_same():
    """Compare a map with the expected one, within 5/255 on average.

    This limit is above the library's 2/255, since the random, scaled heads of the tiny network amplify the rounding of
    a resize or of JPEG.
    """

    def compare(saliency_map, expected):
        assert saliency_map.dtype == np.float32
        assert saliency_map.shape == expected.shape
        assert np.abs(saliency_map - expected).mean() < 5 / 255

    return compare


@pytest.fixture(scope="session")
def map_of(tiny_model):
    """Computes the map of an image without a server or SavedModel, as `keras-recnet predict` does."""
    from keras_recnet.imaging.reading import read
    from keras_recnet.imaging.resizing import resize, resize_map

    inference = tiny_model.to_inference()

    def compute(source):
        picture = read(source)
        images = resize(picture.rgb, tiny_model.image_size)[None].astype(np.float32)
        return resize_map(np.asarray(inference(images, training=False))[0, ..., 0], picture.size)

    return compute
