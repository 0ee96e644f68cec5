"""Verification of the shipped networks and the papers' networks at full size: `make verify` takes some minutes.

`make test` exports small networks instead.
"""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_recnet import presets
from keras_recnet.export import export_model
from keras_recnet.imaging.reading import read
from keras_recnet.imaging.resizing import resize
from keras_recnet.inference.group_engines import LiteRTGroupEngine
from keras_recnet.inference.predictor import Predictor
from keras_recnet.models import RCAUNet, RecNet

pytestmark = pytest.mark.verify

FORMATS = [
    *(("savedmodel", "float32"), ("savedmodel", "float16"), ("litert", "float32"), ("litert", "float16")),
    *(("onnx", "float32"), ("openvino", "float32")),
]
LIMIT = {format: 1e-4 if format[0] == "litert" else 1e-5 for format in FORMATS if format[1] == "float32"}
SHIPPED = [preset.name for preset in presets.available()]


def paper_recnet():
    """The paper's RecNet with random weights, whose heads are scaled so that the map is not constant."""
    keras.utils.set_random_seed(0)
    model = RecNet(backbone_weights=None)
    for branch in ("foreground", "background"):
        kernel = model.get_layer(f"{branch}_head").logits.kernel
        kernel.assign(10 * kernel)
    return model


def paper_rcaunet():
    keras.utils.set_random_seed(0)
    return RCAUNet(backbone_weights=None)


NETWORKS = {**{name: lambda name=name: name for name in SHIPPED}, "paper_recnet": paper_recnet}
NETWORKS["paper_rcaunet"] = paper_rcaunet


@pytest.mark.parametrize(("format", "precision"), FORMATS)
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_equal_those_of_keras(network, format, precision, tmp_path):
    # float16 is slow on CPUs, so only one signature of the papers' networks is tested
    large = network.startswith("paper") and (format, precision) == ("savedmodel", "float16")
    signatures = ["serving_default" if network == "paper_recnet" else "group"] if large else None
    report = export_model(
        NETWORKS[network](), tmp_path / "out", format=format, precision=precision, signatures=signatures
    )
    rows = report["verification"]["differences"]
    assert report.get("gpu_incompatible", []) == []
    print(*(f"{network} {format} {precision} {row}" for row in rows), sep="\n")
    for row in rows:
        rounding = 0.5 / 255 if row["output"] == "saliency_bytes" else 0
        assert row["mean"] <= LIMIT.get((format, precision), 5e-3) + rounding  # float16: 5e-3


def test_the_shipped_int8_file_is_close_to_keras(tmp_path):
    report = export_model("recnet_lite0", tmp_path / "out", format="litert", precision="int8")
    (row,) = report["verification"]["differences"]
    print(f"recnet_lite0 litert int8 {row}")
    assert row["mean"] <= 0.01
    assert report["gpu_incompatible"] == []


@pytest.mark.parametrize("count", [1, 7, 50])
@pytest.mark.parametrize("name", [name for name in SHIPPED if presets.find(name).config["class"] == "RCAUNet"])
def test_a_streamed_group_in_litert_equals_the_group_in_keras(name, count, photographs, maps_in_parts):
    preset = presets.find(name)
    engine = LiteRTGroupEngine(preset.file(presets.LITERT), threads=2)
    random = np.random.default_rng(count)
    # photos that have something in common: the maps of unrelated ones are dark
    photos, images = sorted((photographs[0].parents[1] / "group").glob("*.jpg")), []
    for index in range(count):  # random crops, so that no two are the same
        rgb = read(photos[index % len(photos)]).rgb
        top, left = (int(random.integers(0, side // 4)) for side in rgb.shape[:2])
        images.append(resize(rgb[top:, left:], engine.size))
    received = maps_in_parts(engine, images)
    inputs = {"images": np.stack(images)[None].astype("float32"), "mask": np.ones((1, count), bool)}
    inference = RCAUNet.from_preset(name).to_inference()
    expected = keras.ops.convert_to_numpy(inference.predict_on_batch(inputs))[0, ..., 0]
    assert expected.std() > 0.1
    assert np.abs(received - expected).mean() <= 5e-3


def test_litert_keras_and_both_serving_signatures_agree(photographs, tmp_path):
    ten = [*photographs, photographs[0].parents[1] / "group" / "flower_and_grace_hopper.jpg"]
    for photo, side in ((photographs[2], 1800), (photographs[4], 90)):
        ten.append(tmp_path / f"{side}.jpg")
        with Image.open(photo) as image:
            image.resize((side, side * image.height // image.width), Image.Resampling.BICUBIC).save(ten[-1], quality=95)
    assert len(ten) == 10
    report = export_model("recnet_lite0", tmp_path / "out", format="savedmodel")
    signatures = tf.saved_model.load(report["folder"]).signatures
    files = [photo.read_bytes() for photo in ten]
    outputs = signatures["encoded"](image_bytes=tf.constant(files))
    litert, in_keras = (Predictor("recnet_lite0", engine=engine) for engine in ("litert", "keras"))
    for photo, data in zip(ten, outputs["saliency_bytes"].numpy(), strict=True):
        rgb = read(photo).rgb
        maps = {
            "litert": litert(photo),
            "keras": in_keras(photo),
            "serving_default": signatures["serving_default"](images=tf.constant(rgb[None], tf.float32))["saliency"],
            "encoded": np.asarray(Image.open(io.BytesIO(data))) / 255,
        }
        maps = {name: np.asarray(map_).reshape(rgb.shape[:2]) for name, map_ in maps.items()}
        for name, map_ in maps.items():
            difference = np.abs(map_ - maps["keras"]).mean()
            print(f"{photo.name} {rgb.shape[:2]} {name}: {255 * difference:.2f} / 255")
            assert difference <= 2 / 255
