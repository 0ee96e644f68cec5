"""Protocol C of the co-saliency evaluation: the list in the repository, and the script that draws and writes it."""

import importlib.util
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_recnet.pipelines import Member

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "protocol_c.py"
COLORS = {"cats": (255, 0, 0), "lions": (0, 255, 0), "cars": (0, 0, 255), "cups": (255, 255, 0)}
CATEGORIES = {"cats": "cat", "lions": "cat"}


@pytest.fixture(scope="module")
def protocol_c():
    spec = importlib.util.spec_from_file_location("protocol_c", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def groups():
    """Four groups of three images, two of them of the same category."""
    return {
        group: [Member(group, f"{group}/{n}", category=CATEGORIES.get(group, "")) for n in range(3)] for group in COLORS
    }


def read(name):
    """A gray image with a rectangle in the color of its group, and its mask."""
    group, number = name.split("/")
    image, mask = np.full((80, 100, 3), 128, np.uint8), np.zeros((80, 100), np.uint8)
    area = slice(20, 60), slice(10 + 20 * int(number), 50 + 20 * int(number))
    image[area], mask[area] = COLORS[group], 255
    return image, mask


def test_each_pair_of_groups_of_different_categories_has_a_composite(protocol_c, groups):
    lines = protocol_c.draw(groups, read)
    pairs = {frozenset((line.first_group, line.second_group)) for line in lines}
    assert len(lines) == len(pairs) == 5
    assert pairs == {frozenset(pair) for pair in itertools.combinations(COLORS, 2)} - {frozenset(("cats", "lions"))}
    assert Counter(line.kind for line in lines) == {"mosaic": 3, "paste": 2}
    for line in lines:
        assert line.first.split("/")[0] == line.first_group
        assert line.second.split("/")[0] == line.second_group
    assert lines == protocol_c.draw(groups, read)


def test_an_image_whose_object_does_not_fit_is_replaced(protocol_c, groups):
    def without_first(name):
        image, mask = read(name)
        return image, mask * (not name.endswith("0"))

    lines = protocol_c.draw(groups, without_first)
    assert len(lines) == 5
    assert not [line for line in lines if line.first.endswith("0") or line.second.endswith("0")]
    with pytest.raises(ValueError, match=r"No images of the groups .* make a mosaic"):
        protocol_c.draw(groups, lambda name: (read(name)[0], np.zeros((80, 100), np.uint8)))


def test_a_composite_is_in_both_groups_with_the_mask_of_the_groups_object(protocol_c, groups, tmp_path):
    lines = protocol_c.draw(groups, read)
    protocol_c.write_folders(lines, read, tmp_path / "a")
    images = sorted((tmp_path / "a" / "images").rglob("*.png"))
    assert len(images) == len(sorted((tmp_path / "a" / "masks").rglob("*.png"))) == 10
    copies = {}
    for path in images:
        image, mask = (
            np.asarray(Image.open(tmp_path / "a" / kind / path.parent.name / path.name)) for kind in ("images", "masks")
        )
        copies.setdefault(path.name, []).append(image.tobytes())
        of_group = np.abs(image.astype(int) - COLORS[path.parent.name]).max(-1) < 60
        assert mask.shape == image.shape[:2]
        assert set(np.unique(mask)) == {0, 255}
        assert (of_group == (mask > 0)).mean() > 0.97  # edges are blended
        assert mask.any()
    assert all(first == second for first, second in copies.values())


def test_the_same_list_and_files_give_the_same_bytes(protocol_c, groups, tmp_path):
    lines = protocol_c.draw(groups, read)
    protocol_c.write_lines(lines, tmp_path / "list.csv")
    assert list(protocol_c.read_lines(tmp_path / "list.csv")) == lines
    for folder in ("a", "b"):
        protocol_c.write_folders(protocol_c.read_lines(tmp_path / "list.csv"), read, tmp_path / folder)
    files = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in (tmp_path / "a").rglob("*.png")}
    assert len(files) == 20
    assert files == {path.relative_to(tmp_path / "b"): path.read_bytes() for path in (tmp_path / "b").rglob("*.png")}


def test_other_files_than_those_of_the_list_are_reported(protocol_c, groups, tmp_path):
    lines = protocol_c.draw(groups, read)
    with pytest.raises(ValueError, match="Line 2 gives no composite"):
        protocol_c.write_folders(lines, lambda name: (read(name)[0], np.zeros((80, 100), np.uint8)), tmp_path)


def test_the_list_in_the_repository_has_20_groups(protocol_c):
    lines = list(protocol_c.read_lines(protocol_c.LIST))
    assert Counter(line.kind for line in lines) == {"mosaic": 89, "paste": 89}
    sizes = Counter(group for line in lines for group in (line.first_group, line.second_group))
    assert len(sizes) == 20
    assert (min(sizes.values()), max(sizes.values())) == (15, 19)


def test_the_list_in_the_repository_is_drawn_with_seed_0(protocol_c, data_folder):
    from keras_recnet.pipelines import find_pairs, read_group_list, read_pair

    folder = data_folder / "DUTS-TR"
    groups = read_group_list(SCRIPT.parent / "groups" / "duts_tr.csv", split="validation")
    names = [member.name for members in groups.values() for member in members]
    pairs = dict(zip(names, find_pairs(folder / "images", folder / "masks", names=names), strict=True))
    drawn = protocol_c.draw(groups, lambda name: read_pair(pairs[name]))
    assert drawn == list(protocol_c.read_lines(protocol_c.LIST))
