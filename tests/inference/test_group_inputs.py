from pathlib import Path

import pytest

from keras_recnet.errors import DataError
from keras_recnet.inference.group_inputs import find_groups, plan_group_jobs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("a/birds/1.jpg", "a/birds/2.png", "a/cats/1.jpg", "b/birds/1.jpg", "b/notes.txt", "top.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def described(groups):
    return {group.name: [image.path for image in group.images] for group in groups}


def test_a_folder_is_a_group_of_its_images(tree):
    groups, problems = find_groups(["a/birds", "a/birds/"])
    assert described(groups) == {"birds": ["a/birds/1.jpg", "a/birds/2.png"]}
    assert [group.source for group in groups] == ["a/birds"]
    assert not problems


def test_folders_with_the_same_name_get_names_from_their_paths(tree):
    groups, _ = find_groups(["a/birds", "b/birds", "a/cats"])
    assert list(described(groups)) == ["a/birds", "b/birds", "cats"]
    groups, _ = find_groups(["a", "b"], recursive=True)
    assert list(described(groups)) == ["a/birds", "cats", "b/birds"]


def test_recursive_includes_the_folder_itself_but_not_the_output_folder(tree):
    groups, problems = find_groups(["."], recursive=True, outside="a")
    assert list(described(groups)) == [tree.name, "b/birds"]
    assert not problems


def test_inputs_that_give_no_group_are_reported(tree):
    groups, problems = find_groups(["a", "b/notes.txt", "gone"], [("x", "*.png")])
    assert not groups
    messages = dict(problems)
    assert "in 2 of its subfolders. Use --recursive" in messages["a"]
    assert "a file, but a group is a folder" in messages["b/notes.txt"]
    assert "no such folder" in messages["gone"]
    assert "no image matches" in messages["*.png"]


def test_patterns_with_the_same_name_form_one_group(tree):
    groups, _ = find_groups([], [("x", "a/cats/*"), ("y", "top.*"), ("x", "a/birds/*.png")])
    assert described(groups) == {"x": ["a/cats/1.jpg", "a/birds/2.png"], "y": ["top.jpg"]}
    with pytest.raises(ValueError, match="another group has this name"):
        find_groups(["a/birds"], [("birds", "top.jpg")])


def test_each_group_has_its_own_output_folder(tree):
    groups, _ = find_groups(["a/birds"])
    (task,) = plan_group_jobs(groups, "out", ["mask", "heatmap", "sheet"])
    assert task.sheet == Path("out/birds.sheet.png")
    assert task.images[1].outputs == {"mask": Path("out/birds/2.png"), "heatmap": Path("out/birds/2.heatmap.png")}
    (task,) = plan_group_jobs(groups, "x.png", ["sheet"])
    assert (task.sheet, [image.outputs for image in task.images]) == (Path("x.png"), [{}, {}])
    with pytest.raises(ValueError, match="takes one sheet"):
        plan_group_jobs(groups, "x.png", ["mask"])


def test_a_sheet_does_not_overwrite_a_file_of_another_program(tree):
    groups, _ = find_groups(["a/birds"])
    (tree / "out").mkdir()
    (tree / "out/birds.sheet.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"^out/birds.sheet.png: exists, and was not written by keras-recnet"):
        plan_group_jobs(groups, "out", ["sheet"])
    assert plan_group_jobs(groups, "out", ["sheet"], skip_existing=True)
