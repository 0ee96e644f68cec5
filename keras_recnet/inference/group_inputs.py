"""Which groups of pictures a command line names, and how the files written for them are called."""

import collections
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from keras_recnet.inference.inputs import Found, Task, find_pictures, plan


@dataclasses.dataclass(frozen=True)
class Group:
    """Pictures that have something in common.

    Attributes:
        name: of the group, and of its folder below the output folder.
        source: the folder or the pattern that it was found by.
        pictures: in the order of their names; each lies `relative` to the output folder.
    """

    name: str
    source: str
    pictures: list[Found]


@dataclasses.dataclass(frozen=True)
class GroupTask:
    """A group, the files to write for each of its pictures, and the sheet of the whole, if one is wanted."""

    name: str
    source: str
    tasks: list[Task]
    sheet: Path | None = None


def find_groups(
    folders: Iterable[str],
    named: Iterable[tuple[str, str]] = (),
    *,
    recursive: bool = False,
    outside: str | None = None,
) -> tuple[list[Group], list[tuple[str, str]]]:
    """Lists the groups that a command line names.

    A folder is a group of the pictures that lie in it. It is called as the folder; folders of the same name are told
    apart by as much of their paths as it takes (`a/birds`, `b/birds`). With `recursive` every folder below that holds
    pictures is a group of its own, called by its path in the folder that was given.

    Args:
        folders: folders; the same one twice is one group.
        named: (name, glob pattern) each; the patterns of one name make one group.
        recursive: look into sub-folders.
        outside: a folder to leave out of the search, see `find_pictures`.

    Returns:
        The groups, first those of `folders`, and (input, what is wrong) for each input that makes none.

    Raises:
        ValueError: if two groups would have one name.
    """
    groups, problems = [], []
    by_path: dict[str, tuple[str, str, list[Found]]] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            wrong = "a file, but a group is a folder" if os.path.exists(folder) else "no such folder"
            problems.append((folder, f"{folder}: {wrong}. For single files give --group NAME=GLOB."))
            continue
        found, wrong = find_pictures([folder], outside=outside)
        inside = collections.defaultdict(list)
        for picture in found:
            inside[picture.relative.parent].append(picture)
        problems += wrong or ([] if recursive else _nothing_directly(folder, inside))
        for below, pictures in sorted(inside.items()) if recursive else [(Path(), inside[Path()])]:
            if pictures:
                name = os.path.basename(os.path.abspath(folder)) if below == Path() else below.as_posix()
                source = os.path.join(folder, below) if below != Path() else folder
                by_path.setdefault(os.path.abspath(source), (name, source, pictures))
    for path, name in _told_apart({path: name for path, (name, *_) in by_path.items()}).items():
        _, source, pictures = by_path[path]
        groups.append(Group(name, source, [Found(one.path, Path(name, one.relative.name)) for one in pictures]))

    patterns = collections.defaultdict(list)
    for name, pattern in named:
        patterns[name].append(pattern)
    for name, texts in patterns.items():
        if os.path.normcase(name) in {os.path.normcase(group.name) for group in groups}:
            raise ValueError(f"--group {name}: another group has this name. Choose another one.")
        found, wrong = find_pictures(texts, outside=outside)
        problems += wrong
        if found:
            pictures = [Found(picture.path, Path(name) / picture.relative) for picture in found]
            groups.append(Group(name, ", ".join(texts), pictures))
    return groups, problems


def plan_groups(groups: Iterable[Group], out: str, kinds: Iterable[str]) -> list[GroupTask]:
    """Names the files to write: `OUT/GROUP/…` as `plan` does for each picture, and `OUT/GROUP.sheet.png`.

    `OUT` may name one `.png` file, for the sheet of one group.

    Raises:
        ValueError: as `plan`'s.
    """
    groups, kinds = list(groups), list(kinds)
    of_pictures = [kind for kind in kinds if kind != "sheet"]
    if out.lower().endswith(".png") and not os.path.isdir(out):
        if len(groups) > 1 or of_pictures:
            raise ValueError(
                f"{out!r} takes one sheet (--type sheet) of one group; for more give a folder. Received: "
                f"{len(groups)} × {', '.join(kinds)}"
            )
        tasks = [[Task(picture.path, {}) for picture in group.pictures] for group in groups]
        return [GroupTask(group.name, group.source, *tasks, Path(out)) for group in groups]
    # all at once, so that a name that two groups would write is found
    tasks = iter(plan([picture for group in groups for picture in group.pictures], out, of_pictures))
    return [
        GroupTask(
            group.name,
            group.source,
            [next(tasks) for _ in group.pictures],
            Path(out, f"{group.name}.sheet.png") if "sheet" in kinds else None,
        )
        for group in groups
    ]


def _nothing_directly(folder, inside):
    if Path() in inside:
        return []
    return [
        (
            folder,
            f"{folder}: no pictures in this folder itself, but in {len(inside)} below it. With --recursive each of "
            f"them is a group.",
        )
    ]


def _told_apart(names):
    """Path → name; where names are alike, the last parts of the paths that tell them apart."""
    given, parts = dict(names), 1
    while alike := _alike(given):
        parts += 1
        for path in alike:
            given[path] = Path(*Path(path).parts[1:][-parts:]).as_posix()
    return given


def _alike(names):
    counts = collections.Counter(os.path.normcase(name) for name in names.values())
    return [path for path, name in names.items() if counts[os.path.normcase(name)] > 1]
