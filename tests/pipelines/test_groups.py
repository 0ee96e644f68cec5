import os

import numpy as np
import pytest
from PIL import Image

from keras_recnet.pipelines import (
    Group,
    Pair,
    PipelineDataError,
    check_groups,
    find_groups,
    read_groups,
    read_pair,
    single_images,
    split_groups,
    write_group_folders,
    write_groups,
)


def names_of(groups):
    return {group.name: [pair.name for pair in group.pairs] for group in groups}


def made(**sizes):
    """Groups of the given sizes, without files."""
    return [
        Group(name, tuple(Pair(f"{name}/{i}", f"i/{name}/{i}.jpg", f"m/{name}/{i}.png") for i in range(size)))
        for name, size in sizes.items()
    ]


# Folders


@pytest.mark.parametrize(
    ("image_folder", "mask_folder", "image_extension", "mask_extension"),
    [
        pytest.param("Image", "GroundTruth", ".jpg", ".png", id="Cosal2015, CoSOD3k, iCoseg"),
        pytest.param("Image", "GroundTruth", ".bmp", ".bmp", id="MSRC"),
        pytest.param("image", "binary", ".jpg", ".png", id="CoCA"),
        pytest.param("img", "gt", ".png", ".png", id="the COCO subset"),
        pytest.param("images", "ground_truth", ".jpg", ".png", id="iCoseg's own"),
    ],
)
def test_every_public_layout_is_found(
    folders, save_pair, tmp_path, image_folder, mask_folder, image_extension, mask_extension
):
    for name in ("cat/1", "cat/2", "Banana split/x.1", "Banana split/y"):
        save_pair(name, image_extension=image_extension, mask_extension=mask_extension)
    (folders[0] / "cat" / "._1.jpg").write_bytes(b"x")
    (folders[0] / "cat" / "Thumbs.db").write_bytes(b"x")
    # CoCA and CoSOD3k contain more folders.
    (tmp_path / "SegmentationObject").mkdir()
    for folder, name in zip(folders, (image_folder, mask_folder), strict=True):
        folder.rename(tmp_path / name)
    groups = find_groups(tmp_path)
    assert names_of(groups) == {
        "Banana split": ["Banana split/x.1", "Banana split/y"],
        "cat": ["cat/1", "cat/2"],
    }
    assert groups[1].pairs[0].image == tmp_path / image_folder / "cat" / f"1{image_extension}"
    assert groups[1].pairs[0].mask == tmp_path / mask_folder / "cat" / f"1{mask_extension}"
    assert groups == find_groups(images=tmp_path / image_folder, masks=tmp_path / mask_folder)
    check_groups(groups, decode=True)


def test_every_fault_of_the_folders_is_reported(folders, save_pair):
    images, masks = folders
    for name in ("a/1", "a/2", "a/3", "loose"):
        save_pair(name)
    (masks / "a/1.png").unlink()
    (images / "a/2.jpg").unlink()
    (images / "a/3.jpg").write_bytes(b"")
    (images / "empty").mkdir()
    with pytest.raises(PipelineDataError) as caught:
        find_groups(images=images, masks=masks)
    assert caught.value.problems == [
        f"{images / 'loose.jpg'}: not in the subfolder of a group",
        f"{images / 'empty'}: empty group, no image in it",
        f"{images / 'a/1.jpg'}: image without mask",
        f"{masks / 'a/2.png'}: mask without image",
        f"{images / 'a/3.jpg'}: the file is empty (0 bytes). Copy it again.",
    ]


def test_a_name_that_occurs_twice_in_a_group_is_reported(folders, save_pair):
    for extension in (".jpg", ".png"):
        save_pair("a/1", image_extension=extension)
    save_pair("b/1")
    with pytest.raises(PipelineDataError) as caught:
        find_groups(images=folders[0], masks=folders[1])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{folders[0] / 'a/1.png'}: has the same name as")


def test_every_unusable_file_is_reported_once(folders, save_pair):
    images, masks = folders
    for name in ("a/1", "a/2", "a/3"):
        save_pair(name)
    (images / "a/1.jpg").write_bytes(b"")
    Image.new("L", (30, 30)).save(masks / "a/2.png")
    groups = find_groups(images=images, masks=masks)
    with pytest.raises(PipelineDataError) as caught:
        check_groups(groups * 2)
    empty, size = caught.value.problems
    assert empty == f"{images / 'a/1.jpg'}: the file is empty (0 bytes). Copy it again."
    assert size.startswith(f"{masks / 'a/2.png'}: 30×30 pixels do not have the proportions")


def test_a_group_of_one_is_accepted_with_a_warning(folders, save_pair):
    for name in ("a/1", "b/1", "b/2"):
        save_pair(name)
    with pytest.warns(UserWarning, match="1 of 2 groups have only one image .*: a$"):
        groups = find_groups(images=folders[0], masks=folders[1])
    assert names_of(groups) == {"a": ["a/1"], "b": ["b/1", "b/2"]}


def test_excluded_names_are_left_out(folders, save_pair):
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2"):
        save_pair(name)
    groups = find_groups(images=folders[0], masks=folders[1], exclude=["a/2", "b/1", "b/2"])
    assert names_of(groups) == {"a": ["a/1", "a/3"]}


def test_missing_and_ambiguous_folders_are_reported(tmp_path):
    with pytest.raises(PipelineDataError, match="nowhere: no such folder"):
        find_groups(tmp_path / "nowhere")
    with pytest.raises(PipelineDataError, match=r"(?s)no folder of images.*no folder at all.*no folder of masks"):
        find_groups(tmp_path)
    for name in ("images", "gt", "GroundTruth"):
        (tmp_path / name).mkdir()
    with pytest.raises(PipelineDataError, match=r"several folders of masks.* Received: GroundTruth, gt"):
        find_groups(tmp_path)


@pytest.mark.parametrize("arguments", [{}, {"images": "a"}, {"root": "r", "images": "a", "masks": "b"}])
def test_a_root_or_both_folders_are_required(arguments):
    with pytest.raises(ValueError, match=r"Pass `root`, or `images` and `masks`\. Received: "):
        find_groups(**arguments)


# Lists


def test_groups_are_read_from_a_list(folders, save_pair, tmp_path):
    for name in ("1", "2", "sub/3"):
        save_pair(name)
    path = tmp_path / "groups.csv"
    path.write_text("group,name,split,distractor,category\nx,2,train,0,cat\nx,1.jpg,train,1,cat\nx,sub/3,train,0,cat\n")
    (group,) = read_groups(path, *folders, split="train")
    assert [pair.image for pair in group.pairs] == [folders[0] / f"{name}.jpg" for name in ("2", "1", "sub/3")]
    assert group.distractors == (False, True, False)
    assert group.category == "cat"
    assert [pair.name for pair in group.own] == ["2", "sub/3"]
    write_groups(tmp_path / "again.csv", [group], split="train")
    assert read_groups(tmp_path / "again.csv", *folders) == [group]


def test_listed_names_without_files_are_reported(folders, save_pair, tmp_path):
    for name in ("1", "2"):
        save_pair(name)
    (folders[1] / "2.png").unlink()
    path = tmp_path / "groups.csv"
    path.write_text("group,name\nx,1\nx,2\nx,3\n")
    with pytest.raises(PipelineDataError) as caught:
        read_groups(path, *folders)
    assert len(caught.value.problems) == 2
    assert "image without mask" in caught.value.problems[0]
    assert "no image of this name" in caught.value.problems[1]


def test_bad_lines_missing_files_and_damaged_files_are_reported_together(folders, save_pair, tmp_path):
    for name in ("1", "2"):
        save_pair(name)
    (folders[1] / "2.png").write_bytes(b"")
    path = tmp_path / "groups.csv"
    for lines, messages in (
        ("x,1\nx,\nx,2\nx,3\n", ("line 3: has no name", "line '3' of the list: no image", "2.png: the file is empty")),
        ("x,1\nx,\nx,2\n", ("line 3: has no name", "2.png: the file is empty")),
    ):
        path.write_text(f"group,name\n{lines}")
        with pytest.raises(PipelineDataError) as caught:
            read_groups(path, *folders)
        for problem, message in zip(caught.value.problems, messages, strict=True):
            assert message in problem


def test_duts_has_239_training_groups(data_folder):
    root = data_folder / "DUTS-TR"
    groups = read_groups(root / "groups.csv", root / "images", root / "masks", split="train")
    assert (len(groups), sum(map(len, groups))) == (239, 5402)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": ()}, "needs an image that is not a distractor.* Received: 0 pairs"),
        (
            {"distractors": (True, True)},
            r"needs an image that is not a distractor.* Received: 2 pairs, distractors=\(True, True\)",
        ),
        ({"distractors": (False,)}, "one flag"),
        ({"pairs": (Pair("a", "a", "a"),) * 2}, "twice in the group 'g'. Received twice: a"),
    ],
)
def test_invalid_groups_raise_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        Group(**{"name": "g", "pairs": (Pair("a", "a", "a"), Pair("b", "b", "b")), **changes})


# Splits


@pytest.mark.parametrize("seed", range(5))
def test_halves_are_disjoint_complete_and_equal(seed):
    groups = made(a=7, b=8, c=5, d=1, e=30, f=1)
    sides = split_groups(groups, seed=seed)
    counts = []
    for group in groups:
        parts = [[pair for other in side if other.name == group.name for pair in other.pairs] for side in sides]
        assert sorted(parts[0] + parts[1]) == sorted(group.pairs)
        assert abs(len(parts[0]) - len(parts[1])) <= 1
        for part in parts:
            assert part == sorted(part, key=group.pairs.index)
        counts.append(list(map(len, parts)))
    assert abs(sum(first - second for first, second in counts)) <= 1
    assert sides == split_groups(groups, seed=seed)
    assert sides != split_groups(groups, seed=seed + 1)


@pytest.mark.parametrize("by", ["images", "groups"])
def test_a_split_does_not_depend_on_the_order_of_groups_and_images(by):
    groups = made(a=7, b=8, c=5, d=1)
    reordered = [Group(group.name, group.pairs[::-1]) for group in groups[::-1]]
    for one, other in zip(split_groups(groups, by=by), split_groups(reordered, by=by), strict=True):
        expected = {name: sorted(names) for name, names in names_of(one).items()}
        assert {name: sorted(names) for name, names in names_of(other).items()} == expected


def test_a_different_share_is_exact_over_all_groups():
    training, test = split_groups(made(**{f"g{i}": 3 for i in range(100)}), share=0.8)
    assert sum(map(len, training)) == pytest.approx(240, abs=1)
    assert sum(map(len, test)) == pytest.approx(60, abs=1)


def test_splitting_by_groups_keeps_each_group_whole():
    groups = made(**{f"g{i}": 3 for i in range(9)})
    training, test = split_groups(groups, by="groups", seed=1)
    assert len(training) == 4
    assert sorted(group.name for group in training + test) == [group.name for group in groups]
    assert (training, test) == split_groups(groups, by="groups", seed=1)
    assert training != split_groups(groups, by="groups", seed=2)[0]


@pytest.mark.parametrize("arguments", [{"share": 1.5}, {"by": "class"}])
def test_invalid_splits_raise_errors(arguments):
    with pytest.raises(ValueError, match=r"`share` must be in 0…1 and `by` be one of .* Received: share="):
        split_groups(made(a=2), **arguments)


def test_single_images_are_groups_of_one():
    pairs = made(a=3)[0].pairs
    assert names_of(single_images(pairs)) == {"a/0": ["a/0"], "a/1": ["a/1"], "a/2": ["a/2"]}


# Groups laid out as folders


def test_written_folders_are_found_again(folders, save_pair, tmp_path):
    for name in ("1", "sub/2", "3"):
        save_pair(name)
    pairs = [Pair(name, folders[0] / f"{name}.jpg", folders[1] / f"{name}.png") for name in ("1", "sub/2", "3")]
    group = Group("a: b", tuple(pairs), (False, True, False))
    out = tmp_path / "out"
    for _ in range(2):  # existing files are kept
        write_group_folders([group], out)
    (found,) = find_groups(out)
    assert found.name == "a_ b"
    assert [pair.name for pair in found.pairs] == ["a_ b/1", "a_ b/3", "a_ b/sub_2"]
    for pair, original in zip(found.pairs, (pairs[0], pairs[2], pairs[1]), strict=True):
        image, mask = read_pair(pair)
        expected, expected_mask = read_pair(original)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mask, expected_mask if original is not pairs[1] else 0)


def test_images_are_copied_where_links_are_not_supported(folders, save_pair, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("a privilege is missing")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    save_pair("1")
    pair = Pair("1", folders[0] / "1.jpg", folders[1] / "1.png")
    write_group_folders([Group("a", (pair,))], tmp_path / "out")
    copy = tmp_path / "out/images/a/1.jpg"
    assert copy.read_bytes() == pair.image.read_bytes()
    assert not copy.is_symlink()
    assert os.listdir(copy.parent) == ["1.jpg"]


def test_two_images_for_one_file_name_raise_an_error(tmp_path):
    pairs = tuple(Pair(name, f"{name}.jpg", f"{name}.png") for name in ("a/b", "a_b"))
    with pytest.raises(ValueError, match=r"written to the same file\. Received: 'a_b' for 'h/a_b'"):
        write_group_folders([Group("g", pairs[:1]), Group("h", pairs)], tmp_path)
