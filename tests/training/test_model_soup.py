import numpy as np
import pytest

from keras_recnet import RecNet
from keras_recnet.errors import PresetError
from keras_recnet.training.model_soup import average_presets

SMALL = {
    "backbone": "efficientnet_lite0",
    "image_size": 64,
    "backbone_weights": None,
    "integration_filters": 8,
    "key_channels": 8,
    "value_channels": 8,
    "head_filters": 8,
    "separable": True,
    "normalization": "batch",
}


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Folders of three presets: `one` with all weights 1, `four` with all weights 4, `other` with fewer filters."""
    folder = tmp_path_factory.mktemp("presets")
    for name, value, changes in (("one", 1.0, {}), ("four", 4.0, {}), ("other", 1.0, {"head_filters": 4})):
        model = RecNet(**{**SMALL, **changes})
        model.set_weights([np.full(weight.shape, value) for weight in model.get_weights()])
        model.save_to_preset(folder / name)
    return folder


def test_every_weight_is_the_weighted_mean(presets):
    model = average_presets({presets / "one": 2, presets / "four": 1}, image_size=96)
    assert model.image_size == (96, 96)
    for variable in model.weights:
        np.testing.assert_array_equal(np.asarray(variable), 2.0, err_msg=variable.path)


def test_the_mean_of_one_preset_is_the_preset(presets):
    for weight in average_presets({presets / "four": 0.3}).get_weights():
        np.testing.assert_allclose(weight, 4.0, rtol=1e-7)


def test_networks_for_groups_are_averaged(make_group_model, tmp_path):
    for name, value in (("one", 1.0), ("four", 4.0)):
        model = make_group_model("edge")
        model.set_weights([np.full(weight.shape, value) for weight in model.get_weights()])
        model.save_to_preset(tmp_path / name)
    for variable in average_presets({tmp_path / "one": 2, tmp_path / "four": 1}).weights:
        np.testing.assert_array_equal(np.asarray(variable), 2.0, err_msg=variable.path)


def test_different_architectures_are_an_error(presets):
    with pytest.raises(PresetError, match=r"other: the architecture differs from that of .*one"):
        average_presets({presets / "one": 1, presets / "other": 1})
    with pytest.raises(PresetError, match=r"rcau_lite0: the architecture differs"):
        average_presets({presets / "one": 1, "rcau_lite0": 1})


@pytest.mark.parametrize("shares", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": float("nan")}, {"a": float("inf")}])
def test_shares_must_be_positive(shares):
    with pytest.raises(ValueError, match="`shares` must map presets to positive numbers"):
        average_presets(shares)
