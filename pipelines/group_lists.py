"""CSV lists of groups: the images of each group, its split, and its distractors."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_recnet.errors import did_you_mean
from keras_recnet.files import atomic_path
from keras_recnet.pipelines.pair_reading import PipelineDataError

COLUMNS = ("group", "name", "split", "distractor", "category")
BOOLEANS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


@dataclass(frozen=True)
class Member:
    """One line of a list of groups.

    Attributes:
        group: the group's name.
        name: the image's path inside its folder, without suffix.
        split: such as `"train"`; empty if the list has none.
        distractor: True if the image does not belong to the group; then its mask in this group is empty.
        category: what the group shows; the group's name if empty. Groups of the same category provide no distractors
            for each other.
    """

    group: str
    name: str
    split: str = ""
    distractor: bool = False
    category: str = ""


def read_group_list(path: str | os.PathLike, *, split: str | None = None) -> dict[str, list[Member]]:
    """Read a CSV file with the columns `group` and `name`, and optionally `split`, `distractor` and `category`.

    Args:
        path: the file.
        split: use only the lines of this split; None uses all.

    Returns:
        group → its members, both in the order of the list.

    Raises:
        PipelineDataError: naming every invalid line (no group or name, a name twice in a group, a `distractor`
            that is neither 0 nor 1, a group of two categories); or if a column or the split is missing.
    """
    groups, problems = parse_group_list(path, split)
    if problems:
        raise PipelineDataError(problems, "Correct these lines.")
    return groups


def parse_group_list(path: str | os.PathLike, split: str | None = None) -> tuple[dict[str, list[Member]], list[str]]:
    """Return the groups of the valid lines, like `read_group_list`, and the problems of the invalid lines."""
    groups, problems, seen = {}, [], set()
    for number, line in _lines(path, split):
        group, name, distractor = line["group"], line["name"], (line.get("distractor") or "").lower()
        if not group or not name:
            problems.append(f"{path}, line {number}: has no {'name' if group else 'group'}")
        elif distractor not in BOOLEANS:
            problems.append(f"{path}, line {number}: `distractor` must be 0 or 1. Received: {line['distractor']!r}")
        elif (group, name) in seen:
            problems.append(f"{path}, line {number}: {name} occurs twice in the group {group}")
        else:
            category = line.get("category") or ""
            seen.add((group, name))
            members = groups.setdefault(group, [])
            if members and members[0].category != category:
                problems.append(
                    f"{path}, line {number}: the group {group} has two categories, {members[0].category!r} and "
                    f"{category!r}"
                )
            members.append(Member(group, name, line.get("split") or "", BOOLEANS[distractor], category))
    problems += [
        f"{path}: the group {group} contains only distractors"
        for group, members in groups.items()
        if all(member.distractor for member in members)
    ]
    return groups, problems


def write_group_list(path: str | os.PathLike, members: Iterable[Member]) -> None:
    """Write a list that `read_group_list` reads, atomically; empty columns are left out."""
    members = list(members)
    columns = [c for c in COLUMNS if c in ("group", "name") or any(getattr(member, c) for member in members)]
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for member in members:
            values = (getattr(member, column) for column in columns)
            writer.writerow([int(value) if isinstance(value, bool) else value for value in values])


def with_distractors(groups: Mapping[str, Sequence[str]], *, every: int = 5, seed: int = 0) -> list[Member]:
    """Add distractors to groups: one image from another group for every N images of a group, at random positions.

    Groups with fewer images get none. The group's own images keep their order, and no image occurs twice in a group.
    For the 20 validation groups of DUTS-TR and seed 0, this is protocol B of the evaluation
    (`benchmarks/protocol_b.csv`).

    Args:
        groups: group → names of its images.
        every: N, the number of the group's own images per distractor, 1 or more.
        seed: 0 or more.

    Returns:
        Members for `write_group_list`, group after group.

    Raises:
        ValueError: if `every` is out of range, or the other groups have too few images.
    """
    if every < 1:
        raise ValueError(f"`every` must be 1 or more. Received: every={every}")
    random = np.random.default_rng(seed)
    listed = []
    for group, own in groups.items():
        count = len(own) // every
        others = sorted({name for other, names in groups.items() if other != group for name in names} - set(own))
        if len(others) < count:
            raise ValueError(
                f"`groups` must contain {count} images outside {group!r} to use as distractors. Received: {len(others)}"
            )
        drawn = iter(random.choice(len(others), count, replace=False))
        distractor = np.zeros(len(own) + count, bool)
        distractor[random.choice(len(distractor), count, replace=False)] = True
        members = iter(own)
        listed += [
            Member(group, others[next(drawn)] if is_distractor else next(members), distractor=bool(is_distractor))
            for is_distractor in distractor
        ]
    return listed


def _lines(path, split):
    """Return (number, {column: text}) of the lines of one split."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark before the first column's name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            lines = [
                (reader.line_num, {key: (value or "").strip() for key, value in line.items() if key in COLUMNS})
                for line in reader
                if any(value for value in line.values())
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineDataError([f"{path}: the list cannot be read ({error})"], "Pass a CSV file in UTF-8.") from None
    needed = ["group", "name", *(["split"] if split is not None else [])]
    missing = [column for column in needed if column not in columns]
    if missing:
        raise PipelineDataError(
            [f"{path}: has no column {' and no column '.join(missing)}. Received: {','.join(columns)}"],
            "The first line must name the columns, such as group,name,split.",
        )
    if split is not None:
        splits = sorted({line["split"] for _, line in lines})
        lines = [(number, line) for number, line in lines if line["split"] == split]
        if not lines:
            hint = did_you_mean(split, splits)
            raise PipelineDataError([f"{path}: no line has the split {split!r}, only {', '.join(splits)}.{hint}"], "")
    if not lines:
        raise PipelineDataError([f"{path}: the list is empty"], "Write one image of a group per line.")
    return lines
