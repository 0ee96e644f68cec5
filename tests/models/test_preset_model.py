import json

import h5py
import keras
import numpy as np
import pytest

from keras_recnet import presets
from keras_recnet.errors import PresetError
from keras_recnet.losses import SaliencyLoss
from keras_recnet.models import RecNet, preset_model

SMALL = {
    "backbone": "efficientnet_lite0",
    "image_size": 64,
    "integration_filters": 8,
    "key_channels": 8,
    "head_filters": 8,
    "separable": True,
    "normalization": "batch",
    "fusion": "average",
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return RecNet(**SMALL)


@pytest.fixture
def folder(model, tmp_path):
    model.save_to_preset(tmp_path / "mine", remark="a test")
    return tmp_path / "mine"


def image():
    return np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("float32")


def saliency(model):
    return keras.ops.convert_to_numpy(model.to_inference()(image()))


def test_a_model_is_restored_from_its_preset(model, folder):
    again = RecNet.from_preset(folder)
    assert again.get_config() == model.get_config()
    assert all(weight.dtype == "float32" for weight in again.weights)
    for new, old in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(saliency(again), saliency(model), atol=0.02)


def test_saving_a_loaded_preset_preserves_every_bit(folder, tmp_path):
    first = RecNet.from_preset(folder)
    first.save_to_preset(tmp_path / "second")
    second = RecNet.from_preset(tmp_path / "second")
    np.testing.assert_array_equal(saliency(second), saliency(first))


def test_the_weights_file_contains_only_the_model(folder):
    trained = RecNet.from_preset(folder)
    trained.compile("adam", SaliencyLoss(), jit_compile=False)
    trained.fit(image(), np.zeros((1, 64, 64, 1)), verbose=0)
    trained.save_to_preset(folder)
    arrays = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            arrays.append((name, item))

    with h5py.File(folder / presets.WEIGHTS) as file:
        file.visititems(visit)
        assert len(arrays) == len(trained.weights)
        assert sum(item.size for _, item in arrays) == trained.count_params()
        assert not [name for name, _ in arrays if "optimizer" in name or "loss" in name]
        assert all(item.dtype == ("float16" if item.ndim > 1 else "float32") for _, item in arrays)


def test_older_versions_of_hdf5_can_read_the_weights(model, tmp_path, monkeypatch):
    bounds = []

    class File(h5py.File):
        def close(self):
            if self.id.valid and self.mode == "r+" and str(tmp_path) in self.filename:
                bounds.append(self.id.get_access_plist().get_libver_bounds())
            super().close()

    monkeypatch.setattr(preset_model.h5py, "File", File)
    model.save_to_preset(tmp_path / "mine")
    assert bounds[-1] == (h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)


def test_the_configuration_describes_the_preset(model, folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["class"] == "RecNet"
    assert config["task"] == "saliency"
    assert config["image_size"] == [64, 64]
    assert config["fusion"] == "average"
    assert config["remark"] == "a test"
    assert config["arguments"]["backbone_weights"] is None
    assert config["files"][presets.WEIGHTS]["bytes"] == (folder / presets.WEIGHTS).stat().st_size


def test_the_weights_fit_a_different_image_size(folder):
    assert RecNet.from_preset(folder, image_size=96).image_size == (96, 96)


def test_arguments_that_do_not_fit_the_weights_are_refused(folder):
    with pytest.raises(PresetError, match="does not fit"):
        RecNet.from_preset(folder, head_filters=4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("argument_of_a_newer_version", 1),
        ("backbone", None),
        ("image_size", "64"),
        ("separable", 1),
        ("integration_filters", [8]),
        ("integration_filters", True),
        ("attention", {}),
    ],
)
def test_an_invalid_argument_in_the_configuration_is_named_in_the_error(folder, key, value):
    config = json.loads((folder / "config.json").read_text())
    config["arguments"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError, match=rf"config\.json: .*{key}"):
        RecNet.from_preset(folder)


def test_an_argument_that_the_constructor_refuses_is_named_in_the_error(folder):
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["head_stride"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError, match=r"config\.json: arguments: `head_stride` must be one of"):
        RecNet.from_preset(folder)


def test_non_finite_weights_are_not_saved(model, tmp_path):
    broken = RecNet.from_config(model.get_config())
    broken.weights[0].assign(np.full(broken.weights[0].shape, np.nan))
    with pytest.raises(ValueError, match="not finite"):
        broken.save_to_preset(tmp_path / "broken")
    assert not any((tmp_path / "broken").iterdir())
