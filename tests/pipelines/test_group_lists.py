import os
from pathlib import Path

import pytest

from keras_recnet.pipelines import Member, PipelineDataError, read_group_list, with_distractors, write_group_list

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROTOCOL_B = BENCHMARKS / "protocol_b.csv"


@pytest.fixture
def save_list(tmp_path):
    def save(text):
        path = tmp_path / "groups.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return save


def test_the_lists_with_categories_are_valid():
    duts, extra = (read_group_list(BENCHMARKS / "groups" / f"{name}.csv") for name in ("duts_tr", "extra"))
    splits = {"train": (239, 43), "validation": (20, 0), "test": (0, 6)}
    for split, counts in splits.items():
        assert tuple(sum(group[0].split == split for group in groups.values()) for groups in (duts, extra)) == counts
    for groups in (duts, extra):
        category_of = {}
        for group in groups.values():
            assert len({member.split for member in group}) == 1
            for member in group:
                assert category_of.setdefault(member.name, member.category) == member.category != ""
    birds = {group for groups in (duts, extra) for group, members in groups.items() if members[0].category == "bird"}
    assert birds >= {"7", "Caltech101seg/emu"}  # a cock, an emu
    held_out = {member.name for members in read_group_list(PROTOCOL_B).values() for member in members}
    assert not held_out & {m.name for members in duts.values() for m in members if m.split == "train"}


def test_groups_of_a_split_are_read_in_the_order_of_the_list(save_list):
    path = save_list("\ufeffgroup,name,split\r\nb, 2 ,train\r\n\r\na,1,val\r\nb,1,train\r\n")
    assert read_group_list(path, split="train") == {"b": [Member("b", "2", "train"), Member("b", "1", "train")]}
    assert list(read_group_list(path)) == ["b", "a"]


def test_a_written_list_is_read_back(tmp_path):
    members = [
        Member("dog 1", "dogs/a, b", category="dog"),
        Member("dog 1", "cats/c", distractor=True, category="dog"),
        Member("ö", "d", split="test"),
    ]
    path = tmp_path / "new" / "groups.csv"
    write_group_list(path, members)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "group,name,split,distractor,category",
        'dog 1,"dogs/a, b",,0,dog',
        "dog 1,cats/c,,1,dog",
        "ö,d,test,0,",
    ]
    assert [member for group in read_group_list(path).values() for member in group] == members
    assert os.listdir(path.parent) == ["groups.csv"]


def test_empty_columns_are_left_out(tmp_path):
    write_group_list(tmp_path / "a.csv", [Member("a", "1")])
    assert (tmp_path / "a.csv").read_text() == "group,name\na,1\n"


def test_every_bad_line_is_reported(save_list):
    lines = [
        "group,name,distractor,category",
        "a,1,0,x",
        ",2,0,x",
        "a,,0,x",
        "a,3,maybe,x",
        "a,1,0,x",
        "a,4,0,y",
        "b,5,1,",
    ]
    path = save_list("\n".join(lines))
    with pytest.raises(PipelineDataError) as caught:
        read_group_list(path)
    assert caught.value.problems == [
        f"{path}, line 3: has no group",
        f"{path}, line 4: has no name",
        f"{path}, line 5: `distractor` must be 0 or 1. Received: 'maybe'",
        f"{path}, line 6: 1 occurs twice in the group a",
        f"{path}, line 7: the group a has two categories, 'x' and 'y'",
        f"{path}: the group b contains only distractors",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group,picture\na,1", r"has no column name and no column split\. Received: group,picture"),
        ("a,1\na,2", "has no column group and no column name and no column split"),
        (
            "group,name,split\na,1,train\nb,2,val",
            r"no line has the split 'trian', only train, val\. Did you mean 'tr",
        ),
        ("group,name,split\n", "no line has the split"),
        ("", "has no column"),
    ],
)
def test_missing_columns_and_splits_are_reported(save_list, text, message):
    with pytest.raises(PipelineDataError, match=message):
        read_group_list(save_list(text), split="trian")


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (b"group,name\n\xff,1", "cannot be read")])
def test_an_unreadable_list_is_reported(tmp_path, content, message):
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineDataError, match=message):
        read_group_list(path)


# Protocol B


def test_every_five_images_get_one_distractor_from_another_group():
    groups = {"a": [f"a{i}" for i in range(12)], "b": [f"b{i}" for i in range(5)], "c": [f"c{i}" for i in range(4)]}
    listed = with_distractors(groups, seed=3)
    for group, own in groups.items():
        members = [member for member in listed if member.group == group]
        assert [member.name for member in members if not member.distractor] == own
        distractor = [member.name for member in members if member.distractor]
        assert len(distractor) == len(set(distractor)) == len(own) // 5
        assert not {name[0] for name in distractor} & {group}
    assert listed == with_distractors(groups, seed=3)
    assert listed != with_distractors(groups, seed=4)


def test_distractors_appear_at_every_position():
    groups = {"a": list("abcde"), "b": list("uvwxy")}
    places = set()
    for seed in range(60):
        places.add([member.distractor for member in with_distractors(groups, seed=seed)][:6].index(True))
    assert places == set(range(6))


@pytest.mark.parametrize(
    ("groups", "every", "message"),
    [
        ({"a": list("abc")}, 0, "`every` must be 1 or more. Received: every=0"),
        ({"a": list("abcdef"), "b": list("ab")}, 5, "must contain 1 images outside 'a'.* Received: 0"),
    ],
)
def test_distractors_require_enough_other_images(groups, every, message):
    with pytest.raises(ValueError, match=message):
        with_distractors(groups, every=every)


def test_the_list_in_the_repository_is_drawn_with_seed_0():
    listed = [member for members in read_group_list(PROTOCOL_B).values() for member in members]
    own = {}
    for member in listed:
        if not member.distractor:
            own.setdefault(member.group, []).append(member.name)
    assert len(own) == 20
    assert sum(map(len, own.values())) == 238
    assert listed == with_distractors(own, every=5, seed=0)


def test_the_list_in_the_repository_holds_the_validation_groups_of_duts(data_folder):
    groups = read_group_list(data_folder / "DUTS-TR" / "groups.csv", split="validation")
    own = {
        group: [member.name for member in members if not member.distractor]
        for group, members in read_group_list(PROTOCOL_B).items()
    }
    assert own == {group: [member.name for member in members] for group, members in groups.items()}
