"""Fixtures and options for all tests."""

import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
EXAMPLES = Path(__file__).parents[1] / "examples" / "photos"


def pytest_addoption(parser):
    parser.addoption("--none-skipped", action="store_true", help="report skipped tests as failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _strict(item, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _strict(collector, (yield))


def _strict(node, report):
    if report.skipped and not hasattr(report, "wasxfail") and node.config.getoption("--none-skipped"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (skipped tests fail with --none-skipped)"
    return report


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Clear JAX's compilation cache after each module; otherwise it would grow to several gigabytes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def tiny_backbone():
    """Register the backbone `"tiny"`, as a user would add a backbone: a strided convolution per side output."""
    import keras
    from keras import layers

    from keras_recnet.backbones import BACKBONES
    from keras_recnet.backbones._common import image_shape, side_outputs

    strides = {"P1": 2, "P2": 4, "P3": 8, "P4": 16, "P5": 32}

    def tiny(image_size, *, weights=None, freeze_batch_normalization=True):
        image = keras.Input(image_shape(image_size, 32), name="image")
        x, outputs = layers.Rescaling(1 / 128, offset=-1)(image), {}
        for index, name in enumerate(strides):
            x = layers.Conv2D(4 + index, 3, 2, padding="same", use_bias=False, name=f"{name}_conv")(x)
            outputs[name] = layers.BatchNormalization(name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(outputs[name])
        return side_outputs("tiny", image, outputs, strides, freeze_batch_normalization)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", tiny)
        yield


@pytest.fixture(scope="session")
def data_folder():
    """Folder with `DUTS-TR` and `ECSSD-100`. Tests that need real data are skipped without it."""
    folder = os.environ.get("KERAS_RECNET_DATA")
    if not folder:
        pytest.skip("set KERAS_RECNET_DATA to a folder with DUTS-TR and ECSSD-100")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_model():
    """A RecNet for 64×64 with an ImageNet backbone and small random heads."""
    import keras

    from keras_recnet.models import RecNet

    keras.utils.set_random_seed(0)
    model = RecNet(
        "efficientnet_lite0",
        64,
        integration_filters=8,
        key_channels=8,
        attention_normalize="each",
        scale_scores=True,
        head_filters=8,
        head_stride=4,
        separable=True,
        normalization="batch",
        fusion="average",
    )
    # initial logits are close to zero; larger ones make differences visible
    for branch in ("foreground", "background"):
        kernel = model.get_layer(f"{branch}_head").logits.kernel
        kernel.assign(12 * kernel)
    return model


@pytest.fixture(scope="session")
def tiny_preset(tiny_model, tmp_path_factory):
    """Preset folder of the tiny model, with a LiteRT file. Tests that modify it must copy it first."""
    from keras_recnet.export import exporting

    folder = tmp_path_factory.mktemp("presets") / "tiny"
    tiny_model.save_to_preset(folder)
    exporting.add_to_preset(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_group_model():
    """The edge version of RCAUNet for 64×64 with an ImageNet backbone, whose initial maps depend on the group."""
    return _group_model("edge")


@pytest.fixture(scope="session")
def make_group_model():
    """Function that builds a tiny RCAUNet: `"edge"`, or the paper's version with a recurrent unit (or None)."""
    return _group_model


@pytest.fixture(scope="session")
def tiny_group_preset(tiny_group_model, tmp_path_factory):
    """Preset folder of the tiny RCAUNet, see `tiny_preset`."""
    from keras_recnet.export import exporting

    folder = tmp_path_factory.mktemp("presets") / "tiny_group"
    tiny_group_model.save_to_preset(folder)
    exporting.add_to_preset(folder)
    return folder


@pytest.fixture(scope="session")
def photographs():
    """The photos in `examples/photos`."""
    return sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".jpg", ".png"))


@pytest.fixture(scope="session")
def browser():
    """Path of a browser; without one, tests of pages are skipped."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip(f"no browser found (looked for {', '.join(BROWSERS)})")
    return browser


@pytest.fixture
def processes():
    """A list for processes that a test starts; they are killed after the test."""
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def maps_in_parts():
    """Function that computes the maps of a group part by part: `maps_in_parts(engine, images)`."""
    from keras_recnet.inference.group_stream import GroupStream

    def compute(engine, images):
        with GroupStream(engine) as stream:
            for image in images:
                stream.add(engine.encode(image))
            stream.finish()
            return np.stack([stream.decode(engine.encode(image)).saliency for image in images])

    return compute


@pytest.fixture
def save_photo(tmp_path):
    """Function that saves an image of a bright disk: `save_photo(name, size=(height, width), **options)`."""

    def save(name, size=(48, 64), mode="RGB", **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(disk(size)).convert(mode).save(path, **options)
        return path

    return save


@pytest.fixture
def bomb(tmp_path):
    """A small PNG file whose header declares 10,000 megapixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def disk(size):
    """uint8 image `(H, W, 3)` of an orange disk, left of the center, on a blue-green background."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height / 2) ** 2 + (columns - width / 3) ** 2 < (min(size) / 4) ** 2
    return np.where(inside[..., None], (240, 150, 30), (20, 60, 70)).astype(np.uint8)


def _group_model(version):
    """Build a tiny RCAUNet."""
    import keras

    from keras_recnet.models import RCAUNet, RecNet

    keras.utils.set_random_seed(0)
    if version != "edge":
        return RCAUNet(
            "efficientnet_lite0", 64, recurrent_unit=version, channels=6, decoder_filters=(6, 4, 4, 4), update_bias=1.5
        )
    recnet = RecNet(
        "efficientnet_lite0",
        64,
        integration_filters=4,
        attention=None,
        head_filters=4,
        head_stride=4,
        separable=True,
        fusion="average",
    )
    model = RCAUNet.from_recnet(recnet, channels=6, embedding_channels=4, decoder_filters=(6, 4))
    random = np.random.default_rng(0)
    # the initial correction is zero, and RecNet's initial logits are small
    for weight in model.weights:
        if "gate_and_residual/kernel" in weight.path or "head/logits/kernel" in weight.path:
            weight.assign(random.normal(scale=2.0, size=weight.shape))
    return model
