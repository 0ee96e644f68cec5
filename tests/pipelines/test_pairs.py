import os
from pathlib import Path

import pytest
from PIL import Image

from keras_recnet.errors import DataError
from keras_recnet.pipelines import Pair, PipelineDataError, check_pairs, find_pairs, read_pair


def names_of(pairs):
    return [pair.name for pair in pairs]


def test_pairs_match_by_name_and_sub_folder_with_any_extension(folders, save_pair):
    images, masks = folders
    save_pair("b", image_extension=".JPG", mask_extension=".Png")
    save_pair("cats/a.2", image_extension=".jpeg", mask_extension=".bmp")
    save_pair("a")
    assert find_pairs(images, masks) == [
        Pair("a", images / "a.jpg", masks / "a.png"),
        Pair("b", images / "b.JPG", masks / "b.Png"),
        Pair("cats/a.2", images / "cats/a.2.jpeg", masks / "cats/a.2.bmp"),
    ]


@pytest.mark.parametrize("extension", [".avif", ".jp2", ".heic"])
def test_training_reads_the_same_formats_as_prediction(folders, save_pair, extension):
    if extension == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    save_pair("a", image_extension=extension)
    pairs = find_pairs(*folders)
    check_pairs(pairs, decode=True)
    assert read_pair(pairs[0])[0].shape == (30, 40, 3)


def test_other_files_are_ignored(folders, save_pair):
    save_pair("a")
    for name in (".hidden.jpg", "._a.jpg", "notes.txt", "Thumbs.db", "README"):
        (folders[0] / name).write_bytes(b"x")
    assert names_of(find_pairs(*folders)) == ["a"]


def test_every_missing_partner_is_reported(folders, save_pair):
    images, masks = folders
    for name in ("good", "lonely", "widow"):
        save_pair(name)
    (masks / "lonely.png").unlink()
    (images / "widow.jpg").unlink()
    with pytest.raises(PipelineDataError) as caught:
        find_pairs(images, masks)
    assert caught.value.problems == [
        f"{images / 'lonely.jpg'}: image without mask",
        f"{masks / 'widow.png'}: mask without image",
    ]


def test_faults_of_every_kind_are_reported_together(folders, save_pair):
    images, masks = folders
    for name in ("good", "lonely", "empty", "size", "twice"):
        save_pair(name)
    save_pair("twice", image_extension=".png")
    (masks / "lonely.png").unlink()
    (images / "empty.jpg").write_bytes(b"")
    Image.new("L", (30, 30)).save(masks / "size.png")
    expected = [
        f"{images / 'twice.png'}: has the same name as",
        f"{images / 'lonely.jpg'}: image without mask",
        f"{images / 'empty.jpg'}: the file is empty",
        f"{masks / 'size.png'}: 30×30 pixels do not have the proportions",
        "line 'nothing' of the list: no image of this name",
        "none of its 1 names ('typo', …) is among the images",
    ]
    for arguments, indices in (
        ({}, (0, 1, 2, 3)),
        ({"names": ["empty", "nothing", "size"], "exclude": ["typo"]}, (0, 4, 5, 2, 3)),
    ):
        with pytest.raises(PipelineDataError) as caught:
            find_pairs(images, masks, **arguments)
        for problem, index in zip(caught.value.problems, indices, strict=True):
            assert expected[index] in problem


def test_missing_folders_and_unreadable_lists_are_reported_together(tmp_path):
    images, masks, names, exclude = (tmp_path / name for name in ("images", "masks", "names.txt", "exclude.txt"))
    with pytest.raises(PipelineDataError) as caught:
        find_pairs(images, masks, names=names, exclude=exclude)
    for problem, path in zip(caught.value.problems, (exclude, names, images, masks), strict=True):
        assert problem.startswith(f"{path}: ")


def test_two_images_with_the_same_name_are_reported(folders, save_pair):
    save_pair("a")
    save_pair("a", image_extension=".png")
    with pytest.raises(PipelineDataError, match=r"a\.png: has the same name as .*a\.jpg"):
        find_pairs(*folders)


def test_the_message_shows_twenty_problems_and_counts_the_others():
    error = PipelineDataError([f"{number}.jpg: bad" for number in range(25)], "Do this.")
    assert len(error.problems) == 25
    lines = str(error).splitlines()
    assert lines[0] == "25 problems in the data:"
    assert lines[1] == "  - 0.jpg: bad"
    assert lines[20:] == ["  - 19.jpg: bad", "  … and 5 more", "Do this."]


@pytest.mark.parametrize("kind", [0, 1])
def test_a_missing_folder_is_reported(folders, kind):
    folders = list(folders)
    folders[kind] = folders[kind] / "nowhere"
    with pytest.raises(PipelineDataError, match=r"nowhere: the folder of (images|masks) does not exist"):
        find_pairs(*folders)


def test_empty_folders_are_reported(folders):
    with pytest.raises(PipelineDataError) as caught:
        find_pairs(*folders)
    assert caught.value.problems == [
        f"{folders[0]}: no image in the folder of images",
        f"{folders[1]}: no image in the folder of masks",
    ]


@pytest.mark.parametrize("arguments", [(), ("images",)])
def test_both_folders_are_required(arguments, folders):
    with pytest.raises(ValueError, match="Received: images="):
        find_pairs(*folders[: len(arguments)])


# Names and lists


def test_listed_names_are_used_in_their_order(folders, save_pair, tmp_path):
    for name in ("a", "b", "c", "d e"):
        save_pair(name)
    # As written on Windows: a byte order mark, CRLF, a blank line, an extension.
    (tmp_path / "list.txt").write_bytes("\ufeffc\r\n\r\na.jpg\r\nd e\r\n".encode())
    assert names_of(find_pairs(*folders, names=tmp_path / "list.txt")) == ["c", "a", "d e"]
    assert names_of(find_pairs(*folders, names=["b", "a.png"])) == ["b", "a"]


def test_excluded_names_are_left_out(folders, save_pair, tmp_path):
    for name in ("a", "b", "c"):
        save_pair(name)
    (folders[1] / "c.png").unlink()
    (tmp_path / "validation.txt").write_text("b\nc\nelsewhere\n")
    assert names_of(find_pairs(*folders, exclude=str(tmp_path / "validation.txt"))) == ["a"]
    assert names_of(find_pairs(*folders, names=["b", "a"], exclude=["b"])) == ["a"]


def test_an_exclusion_that_matches_nothing_raises_an_error(folders, save_pair):
    save_pair("a")
    with pytest.raises(PipelineDataError, match=r"none of its 2 names \('images/a', …\) is among the images"):
        find_pairs(*folders, exclude=["images/a", "typo"])


def test_an_empty_selection_raises_an_error(folders, save_pair):
    save_pair("a")
    with pytest.raises(PipelineDataError, match="no pair is left"):
        find_pairs(*folders, exclude=["a"])


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_a_list_of_paths_is_read(folders, save_pair, tmp_path, separator):
    images, masks = folders
    save_pair("a")
    save_pair("with space")
    lines = [
        f"images/a.jpg{separator}masks/a.png",
        f"images/with space.jpg{separator}{masks / 'with space.png'}",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    pairs = find_pairs(names=tmp_path / "list.txt")
    assert names_of(pairs) == ["images/a", "images/with space"]
    assert [(pair.image, pair.mask) for pair in pairs] == [
        (images / "a.jpg", masks / "a.png"),
        (images / "with space.jpg", masks / "with space.png"),
    ]


def test_listed_paths_may_be_relative_to_the_two_folders(folders, save_pair, tmp_path):
    save_pair("cats/a")
    save_pair("cats/b")
    elsewhere = tmp_path / "lists" / "list.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("cats/a.jpg cats/b.png")
    assert find_pairs(*folders, names=elsewhere) == [
        Pair("cats/a", folders[0] / "cats/a.jpg", folders[1] / "cats/b.png")
    ]
    # The name is the same as without a list, so that the same exclusion list works.
    elsewhere.write_text("cats/a.jpg cats/b.png\ncats/b.jpg cats/b.png")
    assert names_of(find_pairs(*folders, names=elsewhere, exclude=["cats/a"])) == ["cats/b"]


def test_every_bad_line_of_a_list_is_reported(folders, save_pair):
    for name in ("a", "lonely", "widow"):
        save_pair(name)
    (folders[1] / "lonely.png").unlink()
    (folders[0] / "widow.jpg").unlink()
    with pytest.raises(PipelineDataError) as caught:
        find_pairs(*folders, names=["a", "lonely", "widow", "nothing", "x.jpg y.png", "a"])
    assert caught.value.problems == [
        f"line 'lonely' of the list: image without mask ({folders[0] / 'lonely.jpg'})",
        f"line 'widow' of the list: mask without image ({folders[1] / 'widow.png'})",
        "line 'nothing' of the list: no image of this name",
        "line 'x.jpg y.png' of the list: neither a name nor the paths of an image and a mask that exist",
        "a: occurs twice in the list",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "the list cannot be read"), (b" \n", "is empty"), (b"\xff\xd8\xff", "cannot be read")],
)
def test_an_unusable_list_is_reported(folders, save_pair, tmp_path, content, message):
    save_pair("a")
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    for argument in ("names", "exclude"):
        with pytest.raises(DataError, match=rf"list\.txt: .*{message}"):
            find_pairs(*folders, **{argument: path})


@pytest.mark.skipif("KERAS_RECNET_DATA" not in os.environ, reason="KERAS_RECNET_DATA is not a folder with DUTS-TR")
def test_duts_is_split_into_validation_and_training_images():
    root = Path(os.environ["KERAS_RECNET_DATA"]) / "DUTS-TR"
    validation = find_pairs(root / "images", root / "masks", names=root / "validation.txt")
    training = find_pairs(root / "images", root / "masks", exclude=root / "validation.txt")
    assert (len(validation), len(training)) == (500, 10_053)
    assert not set(names_of(validation)) & set(names_of(training))
