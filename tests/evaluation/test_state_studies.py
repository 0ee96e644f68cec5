"""Co-saliency presets with the state zeroed, of another group, or of reversed images."""

import numpy as np
import pytest
from PIL import Image

from keras_recnet.cli.evaluate import evaluate
from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.preset_maps import STATES, predict_maps
from keras_recnet.imaging.reading import MAX_PIXELS

from .conftest import save

LEVELS = {"a/1": 0.2, "a/2": 0.4, "b/1": 0.6, "b/2": 0.8}


class Engine:
    """A network whose state has the sum of the levels of all images, and the level of the last one."""

    size, step_features, state_shapes = (8, 8), ("x",), {"total": (1, 1), "last": (1, 1)}

    def encode(self, rgb):
        return {"x": np.full((1, 1), rgb.mean() / 255, np.float32)}

    def advance(self, features, state):
        return {"total": state["total"] + features["x"], "last": features["x"]}

    def decode(self, features, state):
        value = 0.1 * state["total"] + 0.5 * state["last"] + 0.05 * features["x"]
        return np.full(self.size, value.item(), np.float32)


def load(predictor_class, preset):
    predictor = predictor_class.__new__(predictor_class)
    predictor.engine, predictor.max_pixels, predictor.keep_features = Engine(), MAX_PIXELS, 1
    return predictor


def save_image(folder, name, level):
    save(np.full((8, 8, 3), round(level * 255), np.uint8), folder / "images" / f"{name}.png")


@pytest.fixture
def groups(tmp_path):
    folder = tmp_path / "set"
    for name, level in LEVELS.items():
        save_image(folder, name, level)
        save(np.eye(8, dtype=bool), folder / "masks" / f"{name}.png")
    return DataSet("set", folder / "masks", {}, folder / "images", grouped=True)


def predict(data_set, out, states=(), method="ours"):
    """Method → name → value of its map."""
    (data_set,), faults = predict_maps([data_set], [f"{method}=rcau_lite0"], out, states=states, load=load)
    assert not faults
    return {
        method: {name: np.asarray(Image.open(folder / f"{name}.png")).max() / 255 for name in LEVELS}
        for method, folder in data_set.maps.items()
    }


def own(name):
    return 0.05 * LEVELS[name]


def test_each_state_is_a_method_of_its_own(groups, tmp_path):
    maps = predict(groups, tmp_path / "out", ["zero", "other", "reverse"])
    expected = {
        "ours": {"a": 0.06 + 0.2, "b": 0.14 + 0.4},
        "ours (state zeroed)": {"a": 0, "b": 0},
        "ours (state of another group)": {"a": 0.14 + 0.4, "b": 0.06 + 0.2},
        "ours (reversed order)": {"a": 0.06 + 0.1, "b": 0.14 + 0.3},
    }
    assert list(maps) == list(expected)
    for method, values in maps.items():
        for name, value in values.items():
            assert value == pytest.approx(expected[method][name[0]] + own(name), abs=0.003), (method, name)


def test_maps_of_another_state_are_not_reused(groups, tmp_path):
    predict(groups, tmp_path / "out", list(STATES))
    (values,) = predict(groups, tmp_path / "out", method="ours (state zeroed)").values()
    assert values["a/1"] == pytest.approx(0.06 + 0.2 + own("a/1"), abs=0.003)


def test_maps_with_the_state_of_another_group_follow_the_images_of_that_group(groups, tmp_path):
    before = predict(groups, tmp_path / "out", ["other"])
    save_image(groups.images.parent, "b/2", 0.6)
    after = predict(groups, tmp_path / "out", ["other"])
    assert after["ours"]["a/1"] == before["ours"]["a/1"]
    assert after["ours (state of another group)"]["a/1"] == pytest.approx(0.12 + 0.3 + own("a/1"), abs=0.003)


def test_an_unreadable_image_is_left_out_of_the_other_groups_state(groups, tmp_path):
    (groups.images / "b" / "2.png").write_bytes(b"not an image")
    (data_set,), faults = predict_maps([groups], ["rcau_lite0"], tmp_path / "out", states=["other"], load=load)
    assert [fault.method for fault in faults] == ["rcau_lite0", "rcau_lite0 (state of another group)"]
    path = data_set.maps["rcau_lite0 (state of another group)"] / "a" / "1.png"
    assert np.asarray(Image.open(path)).max() / 255 == pytest.approx(0.06 + 0.3 + own("a/1"), abs=0.003)


def test_states_need_a_cosaliency_preset_and_two_groups(groups, tmp_path):
    with pytest.raises(ConfigError, match="--state needs a co-saliency preset"):
        predict_maps([groups], ["recnet_lite0"], tmp_path, states=["zero"])
    names = tmp_path / "names.txt"
    names.write_text("a/1\na/2\n")
    one = DataSet("set", groups.masks, {}, groups.images, grouped=True, names=names)
    with pytest.raises(ConfigError, match=r"needs at least two groups. Received: 1"):
        predict_maps([one], ["rcau_lite0"], tmp_path, states=["other"], load=load)


def test_the_choices_of_the_command_are_the_states():
    (option,) = (parameter for parameter in evaluate.params if parameter.name == "states")
    assert tuple(option.type.choices) == tuple(STATES)
