"""The maps of presets: one folder for everything that they depend on."""

import os
import types

import numpy as np
import pytest
from PIL import Image

from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.preset_maps import predict_maps
from keras_recnet.imaging.reading import MAX_PIXELS

VALUES = {None: 51, "foreground": 102, "average": 153}  # of a map, by fusion


def gray(predictor_class, preset, fusion=None):
    """A predictor whose maps show only its fusion; Keras would be needed for a real one."""
    return types.SimpleNamespace(
        max_pixels=MAX_PIXELS,
        engine=types.SimpleNamespace(size=(64, 64)),
        predict=lambda decoded, parallel: np.full(decoded.size, VALUES[fusion] / 255, np.float32),
    )


def read_maps(data_set):
    """Method → name → map, uint8."""
    return {
        method: {
            path.relative_to(folder).with_suffix("").as_posix(): np.asarray(Image.open(path))
            for path in sorted(folder.rglob("*.png"))
        }
        for method, folder in data_set.maps.items()
    }


@pytest.fixture
def single_images(make_set):
    folder = make_set(["a", "b"], images=True)
    return DataSet("set", folder / "masks", {}, folder / "images")


@pytest.fixture
def groups(make_set):
    folder = make_set(["birds/1", "birds/2", "birds/3", "cats/1"], size=(64, 80), images=True)
    return DataSet("set", folder / "masks", {}, folder / "images", grouped=True)


def test_each_fusion_is_a_method_of_its_own(single_images, tmp_path):
    fusions = ["average", "foreground"]
    (data_set,), faults = predict_maps([single_images], ["ours=recnet_lite0"], tmp_path, fusions=fusions, load=gray)
    assert not faults
    values = {method: images["a"].max() for method, images in read_maps(data_set).items()}
    assert values == {"ours (fusion average)": 153, "ours (fusion foreground)": 102}


def test_maps_of_another_fusion_are_not_reused(single_images, tmp_path):
    def value(method, fusions=()):
        methods = [f"{method}=recnet_lite0"]
        (data_set,), _ = predict_maps([single_images], methods, tmp_path, fusions=fusions, load=gray)
        (images,) = read_maps(data_set).values()
        return images["a"].max()

    assert value("ours", ["foreground"]) == 102
    assert value("ours (fusion foreground)") == 51  # the same name, but the preset's own fusion
    assert value("ours", ["foreground"]) == 102
    assert value("ours") == 51


def test_maps_of_another_folder_of_images_are_not_reused(single_images, make_set, tmp_path):
    other = make_set(["b", "a"], folder=tmp_path / "other", images=True)  # the same names for other images
    maps = []
    for data_set in (single_images, DataSet("set", other / "masks", {}, other / "images")):
        for path in data_set.images.iterdir():
            os.utime(path, (0, 0))
        (predicted,), _ = predict_maps([data_set], ["recnet_lite0"], tmp_path / "out")
        maps += read_maps(predicted).values()
    np.testing.assert_array_equal(maps[0]["a"], maps[1]["b"])
    assert (maps[0]["a"] != maps[1]["a"]).any()


def test_fusions_do_not_change_a_cosaliency_preset(groups, tmp_path):
    with pytest.raises(ConfigError, match="--fusion needs a RecNet preset"):
        predict_maps([groups], ["rcau_lite0"], tmp_path, fusions=["foreground"])
    with pytest.raises(ConfigError, match="--fusion needs a RecNet preset"):
        predict_maps([groups], [], tmp_path, fusions=["foreground"])

    def load(predictor_class, preset, **options):
        return gray(predictor_class, preset, **options) if options else predictor_class(preset)

    presets = ["recnet_lite0", "rcau_lite0"]
    (data_set,), _ = predict_maps([groups], presets, tmp_path, fusions=["foreground"], load=load)
    assert list(data_set.maps) == ["recnet_lite0 (fusion foreground)", "rcau_lite0"]


def test_maps_of_a_group_with_other_images_are_not_reused(groups, tmp_path):
    def maps(out):
        (data_set,), _ = predict_maps([groups], ["rcau_lite0"], out)
        (images,) = read_maps(data_set).values()
        return images

    three = maps(tmp_path / "out")
    for kind in ("images", "masks"):
        next((getattr(groups, kind) / "birds").glob("3.*")).unlink()
    two = maps(tmp_path / "out")
    assert set(two) == {"birds/1", "birds/2", "cats/1"}
    fresh = maps(tmp_path / "fresh")
    for name, saliency_map in two.items():
        np.testing.assert_array_equal(saliency_map, fresh[name])
    assert (two["birds/1"] != three["birds/1"]).any()
