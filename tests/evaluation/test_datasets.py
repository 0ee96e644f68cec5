import errno
import os
from pathlib import Path

import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.evaluation.datasets import DataSet, default_name, method_and_folder, pair, read_list
from keras_recnet.evaluation.published import published
from keras_recnet.pipelines import find_groups, split_groups

from .conftest import save

BLACK = np.zeros((4, 4), np.uint8)


def data_set(folder, **options):
    return DataSet("set", folder / "masks", {"ours": folder / "maps" / "ours"}, **options)


def test_maps_and_masks_are_paired_by_relative_path_ignoring_suffixes(make_set):
    folder = make_set(["b", "sub/a"])
    (folder / "maps/ours/b.png").rename(folder / "maps/ours/b.PNG")
    save(BLACK, folder / "maps/ours/.hidden.png")
    (folder / "maps/ours/readme.txt").touch()
    pairs = pair(data_set(folder))
    assert list(pairs.masks) == ["b", "sub/a"]
    assert pairs.maps["ours"]["b"].name == "b.PNG"
    assert pairs.faults == []


def test_files_without_a_counterpart_are_faults(make_set):
    folder = make_set(["a", "b", "c"])
    (folder / "maps/ours/b.png").unlink()
    save(BLACK, folder / "maps/ours/z.png")
    faults = pair(data_set(folder)).faults
    assert [(fault.kind, fault.method, fault.allowed) for fault in faults] == [
        ("map without mask", "ours", False),
        ("missing map", "ours", False),
    ]
    assert str(folder / "maps/ours/z.png") in faults[0].message
    assert str(folder / "masks/b.png") in faults[1].message
    assert all(fault.allowed for fault in pair(data_set(folder), allow_missing=True).faults)


def test_a_data_set_that_cannot_be_scored_raises_an_error(make_set, tmp_path):
    folder = make_set(["a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no masks in this folder"):
        pair(DataSet("set", tmp_path / "empty", {"ours": folder / "maps/ours"}))
    with pytest.raises(DataError, match=r"empty: no maps of ours in this folder"):
        pair(DataSet("set", folder / "masks", {"ours": tmp_path / "empty"}))
    with pytest.raises(DataError, match=r"gone: no such folder \(masks\)"):
        pair(DataSet("set", tmp_path / "gone", {"ours": folder / "maps/ours"}))
    (folder / "maps/ours/a.png").rename(folder / "maps/ours/b.png")
    with pytest.raises(DataError, match=r"no map has the name of a mask.*Received: b for a"):
        pair(data_set(folder))
    save(BLACK, folder / "masks" / "a.bmp")
    with pytest.raises(DataError, match=r"a.png: a.bmp has the same name"):
        pair(data_set(folder))


@pytest.mark.parametrize("subfolder", ["masks", "maps/ours/sub", "images/sub"])
def test_an_unreadable_folder_raises_an_error(make_set, monkeypatch, subfolder):
    folder = make_set(["a", "sub/b"], images=True)
    scandir = os.scandir

    def deny(path):
        if os.fspath(path) == str(folder / subfolder):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)  # not chmod, which does not restrict root
    with pytest.raises(DataError, match=rf"{subfolder}: cannot be read \(Permission denied\)"):
        pair(data_set(folder, images=folder / "images"), allow_missing=True)


def test_a_mask_of_a_grouped_set_must_be_in_a_group(make_set):
    folder = make_set(["cat/a", "b"])
    with pytest.raises(DataError, match=r"b.png: is not in a group"):
        pair(data_set(folder, grouped=True))


def test_only_listed_names_are_scored(make_set, tmp_path):
    folder = make_set(["a", "b", "c"])
    names = tmp_path / "names.txt"
    names.write_text("c\n\na\n")
    pairs = pair(data_set(folder, names=names))
    assert list(pairs.masks) == list(pairs.maps["ours"]) == ["a", "c"]
    assert pairs.faults == []
    names.write_text("a\nz\n")
    with pytest.raises(DataError, match=r"names.txt: 1 of 2 names have no mask in .*Received: z"):
        pair(data_set(folder, names=names))
    with pytest.raises(DataError, match=r"gone.txt: the list cannot be read"):
        pair(data_set(folder, names=tmp_path / "gone.txt"))


def test_a_list_of_names_may_have_suffixes_and_a_byte_order_mark(make_set, tmp_path):
    folder = make_set(["a", "b.2", "c"])
    names = tmp_path / "names.txt"
    names.write_bytes("\ufeffc.jpg\r\nb.2\r\n".encode())
    assert list(pair(data_set(folder, names=names)).masks) == ["b.2", "c"]


def test_a_split_selects_the_images_that_training_did_not_use(make_set):
    folder = make_set([f"{group}/{number}" for group in ("cat", "dog") for number in range(6)], images=True)
    groups = find_groups(images=folder / "images", masks=folder / "masks")  # as in training
    for part, half in zip(("train", "test"), split_groups(groups, seed=3), strict=True):
        pairs = pair(data_set(folder, grouped=True, split=(3, part)))
        assert set(pairs.masks) == set(pairs.maps["ours"]) == {one.name for group in half for one in group.pairs}
        assert len(pairs.masks) == 6
        assert pairs.faults == []
    with pytest.raises(ConfigError, match=r"set: a split halves the images of each group. It needs groups"):
        pair(data_set(folder, split=(3, "test")))


@pytest.mark.parametrize(
    ("text", "expected"), [("ours=maps/x", ("ours", Path("maps/x"))), ("maps/x", ("x", Path("maps/x")))]
)
def test_a_method_and_its_folder_are_parsed(text, expected):
    assert method_and_folder(text) == expected


@pytest.mark.parametrize("text", ["=x", "ours=", ""])
def test_a_method_needs_a_name_and_a_folder(text):
    with pytest.raises(ConfigError, match="Received"):
        method_and_folder(text)


def test_a_data_set_is_named_after_its_folder():
    assert default_name("data/ECSSD/masks") == "ECSSD"
    assert default_name("data/ECSSD/") == "ECSSD"


def test_a_list_of_data_sets_is_read(tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text(
        "- masks: ECSSD/masks\n  images: ECSSD/images\n  maps: {ours: maps/a, theirs: /maps/b}\n  published: ECSSD\n"
        "- {name: CoSal, masks: cosal, grouped: true, split: {seed: 2}}\n"
    )
    first, second = read_list(path)
    assert (first.name, first.masks, first.images) == ("ECSSD", tmp_path / "ECSSD/masks", tmp_path / "ECSSD/images")
    assert first.maps == {"ours": tmp_path / "maps/a", "theirs": Path("/maps/b")}
    assert (first.published, first.grouped, first.split) == ("ECSSD", False, None)
    assert (second.name, second.maps, second.images, second.grouped) == ("CoSal", {}, None, True)
    assert second.split == (2, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a list of datasets.*Received: None"),
        ("masks: x", "must be a list of datasets"),
        ("- [", "not valid YAML"),
        ("- name: x", "entry 1: masks: is missing"),
        ("- {masks: x, mask: y}", r"entry 1: mask: unknown key\. Did you mean 'masks'\?"),
        ("- {masks: x, grouped: maybe}", "entry 1: grouped: input should be a valid boolean.*Received: 'maybe'"),
        ("- {masks: x, maps: [y]}", "entry 1: maps: .*Received"),
        ("- {masks: x}\n- {masks: x}", "2 datasets are named 'x'"),
        ("- 3", "entry 1"),
        ("- {masks: x, split: {part: half}}", "entry 1: split.part: must be one of 'train', 'test'.*Received: 'half'"),
    ],
)
def test_an_invalid_list_raises_an_error(tmp_path, text, message):
    path = tmp_path / "sets.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"sets.yaml: .*{message}"):
        read_list(path)


def test_a_missing_list_raises_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"gone.yaml: cannot be read"):
        read_list(tmp_path / "gone.yaml")


def test_published_rows_contain_the_numbers_of_both_papers():
    rows = published("ecssd")
    assert len(rows) == 13
    assert rows[-1].method == "RecNet"
    assert rows[-1].values == {"mae": 0.035, "weighted_f": 0.914, "adaptive_f": 0.942}
    assert {row.source for row in rows} == {"RecNet paper, Table 1"}
    (rcau,) = (row for row in published("iCoseg") if row.method == "RCAU")
    assert rcau.values == {"f_mean_plus_std": 0.877, "s_measure": 0.908, "mae": 0.033}
    ablations = published("MSRC", ablations=True)
    assert {row.source for row in ablations} == {"RCAU paper, Table 1", "RCAU paper, Table 2"}
    assert "SP-MIL" not in {row.method for row in published("Cosal2015")}  # the paper prints no numbers
    assert {row.method for row in published("MSRC") if row.fine_tuned} == {"RCAU"}
    assert all(row.fine_tuned for row in ablations if row.source == "RCAU paper, Table 2")
    assert not any(row.fine_tuned for row in published("ECSSD", ablations=True))
    with pytest.raises(ConfigError, match=r"No published numbers for 'DAVIS'.*ECSSD, PASCAL-S"):
        published("DAVIS")
