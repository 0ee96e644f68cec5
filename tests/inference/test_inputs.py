import os
from pathlib import Path

import numpy as np
import pytest

from keras_recnet.errors import DataError
from keras_recnet.imaging import writing
from keras_recnet.inference.group_inputs import ImageGroup, find_groups
from keras_recnet.inference.inputs import InputImage, find_images, plan_jobs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


def found(*inputs, **options):
    images, problems = find_images(inputs, **options)
    assert not problems
    return [(image.path, str(image.relative)) for image in images]


def planned(inputs, out="out", kinds=("mask",), **options):
    tasks = plan_jobs(find_images(inputs, outside=out)[0], out, kinds, **options)
    return {task.source: [str(path) for path in task.outputs.values()] for task in tasks}


def test_a_folder_is_searched_recursively_in_sorted_order(tree):
    tree("in/b.jpg", "in/a.PNG", "in/sub/deep/c.tiff", "in/notes.txt", "in/.hidden.jpg", "in/.git/d.jpg", "in/noending")
    assert found("in") == [("in/a.PNG", "a.PNG"), ("in/b.jpg", "b.jpg"), ("in/sub/deep/c.tiff", "sub/deep/c.tiff")]


@pytest.mark.parametrize("text", ["in", "in/*", "**/*"])
def test_pipes_and_devices_in_a_folder_are_never_opened(tree, text):
    tree("in/a.jpg")
    os.mkfifo("in/pipe.jpg")
    Path("in/device.jpg").symlink_to("/dev/null")
    os.mkfifo("in/a.png")
    assert [path for path, _ in found(text)] == ["in/a.jpg"]
    assert planned(["in/a.jpg"]) == {"in/a.jpg": ["out/a.jpg.png"]}


def test_a_file_is_an_input_whatever_its_suffix(tree):
    tree("in/photo.dat")
    assert found("in/photo.dat") == [("in/photo.dat", "photo.dat")]


def test_a_pattern_keeps_the_structure_below_its_fixed_part(tree):
    tree("in/a.jpg", "in/x/b.jpg", "in/x/c.txt", "in/y/b.jpg")
    assert found("in/**/*.jpg") == [("in/a.jpg", "a.jpg"), ("in/x/b.jpg", "x/b.jpg"), ("in/y/b.jpg", "y/b.jpg")]
    assert found("in/[xy]") == [("in/x/b.jpg", "x/b.jpg"), ("in/y/b.jpg", "y/b.jpg")]
    assert found("*/a.jpg") == [("in/a.jpg", "in/a.jpg")]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree):
    tree("in/a[1].jpg", "in/a1.jpg")
    assert found("in/a[1].jpg") == [("in/a[1].jpg", "a[1].jpg")]


def test_an_image_that_is_given_twice_is_listed_once(tree):
    tree("in/a.jpg", "in/b.jpg")
    assert [path for path, _ in found("in/b.jpg", "in", "./in/a.jpg")] == ["in/b.jpg", "in/a.jpg"]


def test_an_output_folder_inside_the_input_is_excluded(tree):
    tree("in/a.jpg", "in/maps/a.png", "in/maps/sub/b.png", "in/mapsmore/c.png")
    assert [path for path, _ in found("in", outside="in/maps")] == ["in/a.jpg", "in/mapsmore/c.png"]
    assert [path for path, _ in found("in/**/*.png", outside="in/maps")] == ["in/mapsmore/c.png"]


def test_inputs_without_images_are_reported(tree):
    tree("in/notes.txt", "good/a.jpg")
    images, problems = find_images(["in", "gone", "in/*.jpg", "good"])
    assert [image.path for image in images] == ["good/a.jpg"]
    assert [source for source, _ in problems] == ["in", "gone", "in/*.jpg"]
    for (source, message), expected in zip(problems, ("no images in", "no such file", "matches"), strict=True):
        assert message.startswith(f"{source}: {expected}") or expected in message


def test_an_unreadable_folder_is_reported(tree, monkeypatch):
    tree("in/a.jpg", "in/locked/b.jpg", "locked/c.jpg")
    scandir = os.scandir

    def without_permission(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", without_permission)
    images, problems = find_images(["in", "locked"])
    assert [image.path for image in images] == ["in/a.jpg"]
    assert [source for source, _ in problems] == ["in/locked", "locked"]
    for source, message in problems:
        assert message == f"{source}: the folder cannot be read (Permission denied). Check its permissions."
    groups, problems = find_groups(["in", "locked"], recursive=True)
    assert [group.name for group in groups] == ["in"]
    assert [source for source, _ in problems] == ["in/locked", "locked"]
    assert find_groups(["in"]) == ([ImageGroup("in", "in", [InputImage("in/a.jpg", Path("in/a.jpg"))])], [])


def test_a_dash_is_standard_input():
    assert find_images(["-"]) == ([InputImage("-", Path("stdin"))], [])


def test_outputs_are_named_by_kind(tree):
    tree("in/sub/a.b.jpg")
    assert planned(["in"], kinds=("mask", "cutout")) == {
        "in/sub/a.b.jpg": ["out/sub/a.b.png", "out/sub/a.b.cutout.png"]
    }


def test_images_with_the_same_name_keep_their_suffix(tree):
    tree("in/a.jpg", "in/A.PNG", "in/b.jpg", "in/b.txt")
    assert planned(["in"]) == {"in/A.PNG": ["out/A.PNG.png"], "in/a.jpg": ["out/a.jpg.png"], "in/b.jpg": ["out/b.png"]}
    assert planned(["in/a.jpg"]) == {"in/a.jpg": ["out/a.jpg.png"]}
    assert planned(["in/*.jpg"]) == {"in/a.jpg": ["out/a.jpg.png"], "in/b.jpg": ["out/b.png"]}


def test_a_second_run_lists_the_same_images(tree):
    tree("in/a.jpg")
    first = planned(["in"], out="in/maps")
    writing.write(writing.encode(np.zeros((2, 2), np.uint8)), "in/maps/a.png")
    assert planned(["in"], out="in/maps") == first == {"in/a.jpg": ["in/maps/a.png"]}


def test_equal_output_names_from_two_folders_are_refused(tree):
    tree("x/a.jpg", "y/a.jpg")
    with pytest.raises(ValueError, match=r"'x/a.jpg' and 'y/a.jpg' would both be written to 'out/a.png'"):
        planned(["x", "y"])
    assert planned(["*/a.jpg"]) == {"x/a.jpg": ["out/x/a.png"], "y/a.jpg": ["out/y/a.png"]}


def test_equal_output_names_of_different_kinds_are_refused(tree):
    tree("in/a.jpg", "in/a.cutout.jpg")
    with pytest.raises(ValueError, match="would both be written"):
        planned(["in"], kinds=("mask", "cutout"))


@pytest.mark.parametrize("out", ["in", "./in/", "in/../in"])
def test_the_folder_of_the_image_is_refused_as_output_folder(tree, out):
    tree("in/a.jpg")
    with pytest.raises(ValueError, match=r"is the folder of 'in/a.jpg'.*-o a.mask.png"):
        planned(["in/a.jpg"], out=out)


def test_the_output_may_be_one_file(tree):
    tree("in/a.jpg", "in/b.jpg")
    assert planned(["in/a.jpg"], out="in/map.png") == {"in/a.jpg": ["in/map.png"]}
    assert planned(["in/a.jpg"], out="-") == {"in/a.jpg": ["-"]}
    assert planned(["-"], out="-") == {"-": ["-"]}
    for inputs, kinds in ((["in"], ["mask"]), (["in/a.jpg"], ["mask", "cutout"])):
        with pytest.raises(ValueError, match="takes one image of one type"):
            planned(inputs, out="map.png", kinds=kinds)


def test_an_output_never_overwrites_its_image(tree):
    tree("in/a.png")
    os.symlink("a.png", "in/link.png")
    for out in ("in/a.png", "in/link.png"):
        with pytest.raises(ValueError, match="is the input image itself"):
            planned(["in/a.png"], out=out)


def test_a_file_of_another_program_is_not_overwritten(tree):
    tree("photos/raw/a.jpg", "photos/a.png")
    with pytest.raises(DataError, match=r"^photos/a.png: exists, and was not written by keras-recnet"):
        planned(["photos/raw"], out="photos")
    assert planned(["photos/raw"], out="photos", skip_existing=True) == {"photos/raw/a.jpg": ["photos/a.png"]}
    writing.write(writing.encode(np.zeros((2, 2), np.uint8)), "photos/a.png")
    assert planned(["photos/raw"], out="photos") == {"photos/raw/a.jpg": ["photos/a.png"]}


@pytest.mark.parametrize("out", [".", ".."])
def test_a_pattern_finds_images_if_the_output_folder_is_above_it(tree, out):
    tree("photos/a.jpg", "photos/sub/b.jpg")
    assert list(planned(["photos/*.jpg"], out=out)) == ["photos/a.jpg"]
    with pytest.raises(ValueError, match=r"'photos' is the folder of 'photos/a.jpg'"):
        planned(["photos/*.jpg"], out="photos")
