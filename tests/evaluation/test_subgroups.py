"""Random subgroups of groups, with noise images."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.evaluation import figures
from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.run import evaluate
from keras_recnet.evaluation.subgroups import Subgroups, draw_subgroups

from .conftest import save

NAMES = [f"cats/{n}" for n in range(6)] + [f"dogs/{n}" for n in range(4)]


@pytest.fixture
def groups(make_set):
    folder = make_set(NAMES, images=True)
    return DataSet("pets", folder / "masks", {}, folder / "images", grouped=True)


@pytest.fixture
def noise(tmp_path):
    """A folder of five images of different sizes."""
    for number in range(5):
        save(np.full((20 + number, 30, 3), 200, np.uint8), tmp_path / "noise" / f"{number}.png")
    return tmp_path / "noise"


def members(data_set):
    """Group → draw → original names of its images, in order."""
    drawn = {}
    for path in sorted(data_set.images.rglob("*.*")):
        group, number = path.relative_to(data_set.images).parts[:2]
        source = os.path.realpath(path)
        name = "/".join(source.split(os.sep)[-2:]).rsplit(".", 1)[0]
        drawn.setdefault(group, {}).setdefault(number, []).append(name)
    return drawn


def test_each_draw_has_different_images_of_the_group_in_random_order(groups, tmp_path):
    drawn = members(draw_subgroups(groups, Subgroups(3, draws=30), tmp_path / "out"))
    assert list(drawn) == ["cats", "dogs"]
    for group, draws in drawn.items():
        assert len(draws) == 30
        own = {name for name in NAMES if name.startswith(group)}
        for names in draws.values():
            assert len(names) == len(set(names)) == 3
            assert set(names) <= own
        assert {name for names in draws.values() for name in names} == own
        assert {names.index(f"{group}/0") for names in draws.values() if f"{group}/0" in names} == {0, 1, 2}


def test_the_draws_depend_only_on_the_seed_and_the_group(groups, tmp_path):
    drawn = members(draw_subgroups(groups, Subgroups(3, draws=4), tmp_path / "a"))
    assert members(draw_subgroups(groups, Subgroups(3, draws=4), tmp_path / "b")) == drawn
    assert members(draw_subgroups(groups, Subgroups(3, draws=4, seed=1), tmp_path / "a")) != drawn
    more = members(draw_subgroups(groups, Subgroups(3, draws=9), tmp_path / "a"))
    assert {group: dict(list(draws.items())[:4]) for group, draws in more.items()} == drawn
    names = tmp_path / "names.txt"
    names.write_text("".join(f"dogs/{n}\n" for n in range(4)))
    dogs = DataSet("pets", groups.masks, {}, groups.images, grouped=True, names=names)
    assert members(draw_subgroups(dogs, Subgroups(3, draws=4), tmp_path / "a")) == {"dogs": drawn["dogs"]}


def test_noise_images_are_added_at_random_positions_with_black_masks(groups, noise, tmp_path):
    data_set = draw_subgroups(groups, Subgroups(3, draws=30, noise=2, noise_from=noise), tmp_path / "out")
    without = members(draw_subgroups(groups, Subgroups(3, draws=30), tmp_path / "out"))
    positions = set()
    for group, draws in members(data_set).items():
        for number, names in draws.items():
            assert [name for name in names if name.startswith(group)] == without[group][number]
            added = [name for name in names if name.startswith("noise/")]
            assert len(set(added)) == len(added) == len(names) - 3 == 2
            positions |= {names.index(name) for name in added}
    assert positions == {0, 1, 2, 3, 4}
    for path in data_set.images.rglob("*.*"):
        name = path.relative_to(data_set.images).with_suffix(".png")
        with Image.open(path) as image, Image.open(data_set.masks / name) as mask:
            assert mask.size == image.size
            drawn = np.asarray(mask).any()
        assert drawn == ("noise_" not in name.name)


def test_images_of_the_group_are_not_used_as_noise(groups, tmp_path):
    data_set = draw_subgroups(groups, Subgroups(4, draws=10, noise=2, noise_from=groups.images), tmp_path / "out")
    for group, draws in members(data_set).items():
        for names in draws.values():
            assert len([name for name in names if name.startswith(group)]) == 4


def test_subgroups_are_predicted_and_scored(groups, noise, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write", lambda result, folder: {})

    def run(**options):
        how = Subgroups(2, draws=3, **options)
        (result,) = evaluate([groups], tmp_path / "out", presets=["rcau_lite0"], subgroups=how, jobs=1).results
        return result

    result = run(noise=1, noise_from=noise)
    assert result.data_set.name == "pets, subgroups of 2 and 1 noise image"
    assert list(result.groups["rcau_lite0"]) == ["cats", "dogs"]
    means = result.over_groups["rcau_lite0"]
    assert (means.images, means.distractors) == (2 * 3 * 2, 2 * 3)
    values = {name: record.values for name, record in result.records["rcau_lite0"].items()}
    cats = np.mean([own["mae"] for name, own in values.items() if name.startswith("cats/") and "mae" in own])
    assert result.groups["rcau_lite0"]["cats"].values["mae"] == pytest.approx(cats)
    # different draws and different noise images get different maps
    folders = {result.data_set.maps["rcau_lite0"]}
    for options in ({"noise": 1, "noise_from": groups.images}, {}, {"seed": 1}):
        folders.add(run(**options).data_set.maps["rcau_lite0"])
    assert len(folders) == 4


def test_invalid_subgroups_are_reported(groups, noise, make_set, tmp_path):
    def draw(data_set, **options):
        draw_subgroups(data_set, Subgroups(**options), tmp_path / "out")

    with pytest.raises(DataError, match=r"groups of at least as many images.* Received: dogs \(4\)"):
        draw(groups, size=5)
    with pytest.raises(ConfigError, match=r"number of draws of at least 1. Received: .*size=0"):
        draw(groups, size=0)
    with pytest.raises(ConfigError, match="need a number and a folder"):
        draw(groups, size=2, noise=1)
    with pytest.raises(DataError, match=r"noise: 6 noise images are needed that are not in the group cats"):
        draw(groups, size=2, noise=6, noise_from=noise)
    with pytest.raises(ConfigError, match=r"Maps from files \(--maps\) were computed for the whole groups"):
        draw(DataSet("pets", groups.masks, {"ours": tmp_path}, groups.images, grouped=True), size=2)
    for path in noise.iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"\d.png: .* Remove it from the noise images"):
        draw(groups, size=2, noise=1, noise_from=noise)
    next((groups.images / "dogs").glob("1.*")).unlink()
    with pytest.raises(DataError, match=r"1.png: no image of this name in"):
        draw(groups, size=2)


def test_other_masks_or_noise_images_give_another_folder(groups, noise, make_set, tmp_path):
    def folder(data_set=groups):
        how = Subgroups(3, noise=1, noise_from=noise)
        return draw_subgroups(data_set, how, tmp_path / "out").images

    first = folder()
    assert folder() == first
    masks = dataclasses.replace(groups, masks=make_set(NAMES, folder=tmp_path / "other") / "masks")
    assert folder(masks) != first
    save(np.full((20, 30, 3), 100, np.uint8), noise / "9.png")
    assert folder() != first
