"""Find the groups of images of a command, and plan its output files."""

import collections
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from keras_recnet.inference.inputs import (
    ImageJob,
    InputImage,
    check_overwriting,
    find_images,
    names_image_file,
    plan_jobs,
)


@dataclasses.dataclass(frozen=True)
class ImageGroup:
    """Images that have something in common.

    Attributes:
        name: name of the group, and of its folder in the output folder.
        source: the folder or pattern that the group comes from.
        images: sorted by name; `relative` includes the group's name.
    """

    name: str
    source: str
    images: list[InputImage]


@dataclasses.dataclass(frozen=True)
class GroupJob:
    """A group and the files to write for it.

    Attributes:
        name: as in `ImageGroup`.
        source: as in `ImageGroup`.
        images: a job per image of the group.
        sheet: path of the contact sheet of the whole group, or None.
    """

    name: str
    source: str
    images: list[ImageJob]
    sheet: Path | None = None


def find_groups(
    folders: Iterable[str],
    named: Iterable[tuple[str, str]] = (),
    *,
    recursive: bool = False,
    outside: str | None = None,
) -> tuple[list[ImageGroup], list[tuple[str, str]]]:
    """List the groups in folders and patterns.

    The images directly in a folder form a group with the folder's name; if names clash, as much of the path is added
    as needed (`a/birds`, `b/birds`). With `recursive` every subfolder that contains images is a group too, named by
    its path relative to the given folder.

    Args:
        folders: folders; duplicates are ignored.
        named: `(name, glob pattern)` pairs; patterns with the same name form one group.
        recursive: whether to search subfolders.
        outside: folder to exclude from the search, see `find_images`.

    Returns:
        The groups, those of `folders` first, and `(input, message)` for each input that yields no group.

    Raises:
        ValueError: if two groups would have the same name.
    """
    groups, problems = [], []
    by_path: dict[str, tuple[str, str, list[InputImage]]] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            reason = "a file, but a group is a folder" if os.path.exists(folder) else "no such folder"
            problems.append((folder, f"{folder}: {reason}. For single files use --group NAME=GLOB."))
            continue
        images, faults = find_images([folder], outside=outside)
        by_folder = collections.defaultdict(list)
        for image in images:
            by_folder[image.relative.parent].append(image)
        if not recursive and Path() in by_folder:
            faults = []  # they concern subfolders, which do not belong to the group
        problems += faults or ([] if recursive else _only_in_subfolders(folder, by_folder))
        for relative, members in sorted(by_folder.items()) if recursive else [(Path(), by_folder[Path()])]:
            if members:
                name = os.path.basename(os.path.abspath(folder)) if relative == Path() else relative.as_posix()
                source = os.path.join(folder, relative) if relative != Path() else folder
                by_path.setdefault(os.path.abspath(source), (name, source, members))
    for path, name in _unique_names({path: name for path, (name, *_) in by_path.items()}).items():
        _, source, members = by_path[path]
        groups.append(
            ImageGroup(name, source, [InputImage(image.path, Path(name, image.relative.name)) for image in members])
        )

    patterns = collections.defaultdict(list)
    for name, pattern in named:
        patterns[name].append(pattern)
    for name, texts in patterns.items():
        if os.path.normcase(name) in {os.path.normcase(group.name) for group in groups}:
            raise ValueError(f"--group {name}: another group has this name. Choose another one.")
        images, faults = find_images(texts, outside=outside)
        problems += faults
        if images:
            members = [InputImage(image.path, Path(name) / image.relative) for image in images]
            groups.append(ImageGroup(name, ", ".join(texts), members))
    return groups, problems


def plan_group_jobs(
    groups: Iterable[ImageGroup], out: str, kinds: Iterable[str], *, skip_existing: bool = False
) -> list[GroupJob]:
    """Choose the files to write: `OUT/GROUP/…` for each image as in `plan_jobs`, and `OUT/GROUP.sheet.png`.

    Args:
        groups: the groups.
        out: a folder; for the sheet of one group also a PNG, JPEG or WebP file.
        kinds: the output types; `sheet` is drawn once per group.
        skip_existing: as in `plan_jobs`.

    Raises:
        ValueError: as in `plan_jobs`.
        DataError: as in `plan_jobs`.
    """
    groups, kinds = list(groups), list(kinds)
    image_kinds = [kind for kind in kinds if kind != "sheet"]
    if names_image_file(out):
        if len(groups) > 1 or image_kinds:
            raise ValueError(
                f"{out!r} takes one sheet (--type sheet) of one group; for more pass a folder. Received: "
                f"{len(groups)} × {', '.join(kinds)}"
            )
        return [
            GroupJob(group.name, group.source, [ImageJob(image.path, {}) for image in group.images], Path(out))
            for group in groups
        ]
    # all groups in one call, so that clashes between groups are found
    images = [image for group in groups for image in group.images]
    jobs = iter(plan_jobs(images, out, image_kinds, skip_existing=skip_existing))
    sheets = [Path(out, f"{group.name}.sheet.png") if "sheet" in kinds else None for group in groups]
    for sheet in filter(None, [] if skip_existing else sheets):
        check_overwriting(sheet)
    return [
        GroupJob(group.name, group.source, [next(jobs) for _ in group.images], sheet)
        for group, sheet in zip(groups, sheets, strict=True)
    ]


def _only_in_subfolders(folder, by_folder):
    if Path() in by_folder:
        return []
    message = (
        f"{folder}: no images directly in this folder, but in {len(by_folder)} of its subfolders. Use --recursive to "
        f"make each of them a group."
    )
    return [(folder, message)]


def _unique_names(names):
    """Replace equal names with the shortest distinct endings of their paths; `names` maps path → name."""
    result, length = dict(names), 1
    while duplicates := _duplicates(result):
        length += 1
        for path in duplicates:
            result[path] = Path(*Path(path).parts[1:][-length:]).as_posix()
    return result


def _duplicates(names):
    counts = collections.Counter(os.path.normcase(name) for name in names.values())
    return [path for path, name in names.items() if counts[os.path.normcase(name)] > 1]
