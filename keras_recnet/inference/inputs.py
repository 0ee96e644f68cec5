"""Which pictures a command line names, and how the files written for them are called."""

import collections
import dataclasses
import functools
import glob
import os
from collections.abc import Iterable
from pathlib import Path

from keras_recnet.files import is_device, walk
from keras_recnet.imaging.reading import SUFFIXES

STANDARD_STREAM = "-"


@dataclasses.dataclass(frozen=True)
class Found:
    """A picture to work on.

    Attributes:
        path: the file, or `"-"`.
        relative: where it lies under the folder or pattern that it was found by; its outputs lie likewise.
    """

    path: str
    relative: Path


@dataclasses.dataclass(frozen=True)
class Task:
    """A picture and the files to write for it: kind of map → path, or `"-"`."""

    source: str
    outputs: dict[str, Path | str]


def find_pictures(inputs: Iterable[str], *, outside: str | None = None) -> tuple[list[Found], list[tuple[str, str]]]:
    """Lists the pictures that `inputs` name, each once, in the order of `inputs` and sorted within each.

    Args:
        inputs: files (taken as pictures whatever their name), folders (searched recursively for files whose suffix is
            that of a picture; hidden ones are left out), glob patterns (`**` for any depth) and `-` for standard input.
        outside: a folder to leave out of the search: the output folder, which may lie in an input folder.

    Returns:
        The pictures, and (input, what is wrong) for each input that names none.
    """
    found, problems = {}, []
    barrier = None if outside is None else os.path.realpath(outside)
    for text in inputs:
        pictures = list(_search(text, barrier))
        if not pictures:
            problems.append((text, _nothing(text)))
        for picture in pictures:
            found.setdefault(picture.path if picture.path == "-" else os.path.abspath(picture.path), picture)
    return list(found.values()), problems


def plan(pictures: Iterable[Found], out: str, kinds: Iterable[str]) -> list[Task]:
    """Names the files to write: `OUT/NAME.png` for a mask, `OUT/NAME.KIND.png` for other kinds.

    NAME is the picture's name without its suffix. It keeps the suffix (`a.jpg.png`) when another picture of the same
    name lies beside it (`a.jpg` and `a.png`), so a picture's outputs are called the same whichever of the two is asked
    for. `OUT` may name one `.png` file, for one picture and one kind, or be `-`, standard output.

    Raises:
        ValueError: if two outputs would have one name, or a file would be written beside or over a picture.
    """
    pictures, kinds = list(pictures), list(kinds)
    if out == STANDARD_STREAM or (out.lower().endswith(".png") and not os.path.isdir(out)):
        if len(pictures) > 1 or len(kinds) > 1:
            raise ValueError(f"{out!r} takes one picture of one type. Received: {len(pictures)} × {', '.join(kinds)}")
        if out != STANDARD_STREAM and pictures and os.path.realpath(out) == os.path.realpath(pictures[0].path):
            raise ValueError(f"{out!r} is the picture itself. Choose another name.")
        return [Task(picture.path, {kinds[0]: out if out == STANDARD_STREAM else Path(out)}) for picture in pictures]

    taken, tasks = {}, []
    folder_of, names_in = functools.cache(os.path.realpath), functools.cache(_names_in)
    for picture in pictures:
        name = picture.relative.name if _has_namesake(picture.path, names_in) else picture.relative.stem
        folder = Path(out) / picture.relative.parent
        if picture.path != STANDARD_STREAM and folder_of(folder) == folder_of(os.path.dirname(picture.path) or "."):
            raise ValueError(
                f"{out!r} is the folder of {picture.path!r}: maps would lie among the pictures and be taken for "
                f"pictures next time. Choose another folder, or for one picture a file (-o {name}.{kinds[0]}.png)."
            )
        outputs = {kind: folder / (f"{name}.png" if kind == "mask" else f"{name}.{kind}.png") for kind in kinds}
        for path in outputs.values():
            other = taken.setdefault(os.path.normcase(path), picture.path)
            if other != picture.path:
                raise ValueError(
                    f"{other!r} and {picture.path!r} would both be written to {str(path)!r}. Give the folder that "
                    f"holds both (or a quoted pattern), or write to two folders."
                )
        tasks.append(Task(picture.path, outputs))
    return tasks


def _search(text, barrier):
    if text == STANDARD_STREAM:
        yield Found(STANDARD_STREAM, Path("stdin"))
    elif os.path.isdir(text):
        yield from _walk(text, text, barrier)
    elif os.path.exists(text):
        yield Found(text, Path(Path(text).name))
    elif glob.has_magic(text):
        base = os.path.join("", *_before_magic(text))
        for match in sorted(glob.glob(text, recursive=True)):
            if os.path.isdir(match):
                yield from _walk(match, base, barrier)
            elif _is_picture(match) and not is_device(match) and not _inside(match, barrier):
                yield Found(match, Path(os.path.relpath(match, base or ".")))


def _walk(folder, base, barrier):
    for here, _, names in walk(folder, SUFFIXES, skip=barrier):
        for name in names:
            path = os.path.join(here, name)
            yield Found(path, Path(os.path.relpath(path, base or ".")))


def _before_magic(pattern):
    parts = Path(pattern).parts
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return parts[:first]


def _is_picture(path):
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _inside(path, folder):
    return folder is not None and Path(os.path.realpath(path)).is_relative_to(folder)


def _nothing(text):
    if os.path.isdir(text):
        return f"{text}: no pictures in this folder (looked for {', '.join(sorted(SUFFIXES))})."
    if glob.has_magic(text):
        return f"{text}: no picture matches this pattern."
    return f"{text}: no such file or folder. Check the path."


def _has_namesake(path, names_in):
    if path == STANDARD_STREAM:
        return False
    folder, name = os.path.split(path)
    return names_in(folder or ".")[_stem(name)] > _is_picture(name)


def _names_in(folder):
    return collections.Counter(_stem(name) for name in os.listdir(folder) if _is_picture(name))


def _stem(name):
    return os.path.splitext(name)[0].casefold()  # some file systems do not tell A.png from a.png
