"""Find the input images of a command, and plan its output files."""

import collections
import contextlib
import dataclasses
import functools
import glob
import os
from collections.abc import Iterable
from pathlib import Path

from keras_recnet.errors import DataError
from keras_recnet.files import is_device, walk
from keras_recnet.imaging.reading import SUFFIXES
from keras_recnet.imaging.writing import FORMATS, is_own_output

STANDARD_STREAM = "-"


@dataclasses.dataclass(frozen=True)
class InputImage:
    """An image to process.

    Attributes:
        path: the file, or `"-"`.
        relative: path relative to the folder or pattern that `path` was found by; outputs keep this structure.
    """

    path: str
    relative: Path


@dataclasses.dataclass(frozen=True)
class ImageJob:
    """An image and the files to write for it.

    Attributes:
        source: the image file, or `"-"` for standard input.
        outputs: output type → path, or `"-"` for standard output.
    """

    source: str
    outputs: dict[str, Path | str]


def find_images(inputs: Iterable[str], *, outside: str | None = None) -> tuple[list[InputImage], list[tuple[str, str]]]:
    """List the images in `inputs`, each once, in the order of `inputs` and sorted within each input.

    Args:
        inputs: files (whatever their suffix), folders (searched recursively for visible files with the suffix of an
            image), glob patterns (`**` for any depth) and `-` for standard input. Folders and patterns leave out PNG
            files that this library wrote.
        outside: folder to exclude from the search: the output folder, which may be inside an input folder.

    Returns:
        The images, and `(input, message)` for each input that matches no image and each folder that cannot be read.
    """
    images, problems = {}, []
    excluded = None if outside is None else os.path.realpath(outside)
    for text in inputs:
        unreadable = []
        matches = list(_search(text, excluded, unreadable.append))
        problems += [(error.filename, _unreadable(error)) for error in unreadable]
        if not matches and not unreadable:
            problems.append((text, _no_images(text)))
        for image in matches:
            images.setdefault(image.path if image.path == "-" else os.path.abspath(image.path), image)
    return list(images.values()), problems


def plan_jobs(
    images: Iterable[InputImage], out: str, kinds: Iterable[str], *, skip_existing: bool = False
) -> list[ImageJob]:
    """Choose the files to write: `OUT/NAME.png` for a mask, `OUT/NAME.KIND.png` for other types.

    NAME is the image's name without its suffix. It keeps the suffix (`a.jpg.png`) if another image in the same folder
    has the same name (`a.jpg` and `a.png`), even if that other image is not an input, so that names do not depend on
    the selected inputs.

    Args:
        images: the images.
        out: a folder; for one image and one type also a PNG, JPEG or WebP file, or `-` for standard output.
        kinds: the output types.
        skip_existing: whether existing files will not be overwritten.

    Raises:
        ValueError: if two outputs would have the same path, or an output would overwrite its image or be written into
            the image's own folder.
        DataError: if an output in a folder would overwrite a file that this library has not written.
    """
    images, kinds = list(images), list(kinds)
    if out == STANDARD_STREAM or names_image_file(out):
        if len(images) > 1 or len(kinds) > 1:
            raise ValueError(f"{out!r} takes one image of one type. Received: {len(images)} × {', '.join(kinds)}")
        if out != STANDARD_STREAM and images and os.path.realpath(out) == os.path.realpath(images[0].path):
            raise ValueError(f"{out!r} is the input image itself. Choose another name.")
        return [ImageJob(image.path, {kinds[0]: out if out == STANDARD_STREAM else Path(out)}) for image in images]

    sources, jobs = {}, []
    real_folder, names_in = functools.cache(os.path.realpath), functools.cache(_names_in)
    for image in images:
        name = image.relative.name if _has_namesake(image.path, names_in) else image.relative.stem
        folder = Path(out) / image.relative.parent
        if image.path != STANDARD_STREAM and real_folder(folder) == real_folder(os.path.dirname(image.path) or "."):
            raise ValueError(
                f"{out!r} is the folder of {image.path!r}, where maps would mix with the images. Choose another "
                f"folder, or for one image a file (-o {name}.{kinds[0]}.png)."
            )
        outputs = {kind: folder / (f"{name}.png" if kind == "mask" else f"{name}.{kind}.png") for kind in kinds}
        for path in outputs.values():
            other = sources.setdefault(os.path.normcase(path), image.path)
            if other != image.path:
                raise ValueError(
                    f"{other!r} and {image.path!r} would both be written to {str(path)!r}. Pass the folder that "
                    f"contains both (or a quoted pattern), or use different output folders."
                )
            if not skip_existing:
                check_overwriting(path)
        jobs.append(ImageJob(image.path, outputs))
    return jobs


def check_overwriting(path: str | os.PathLike) -> None:
    """Check that a file does not exist or was written by this library, so that it can be overwritten.

    Raises:
        DataError: if it is another file, such as a photo.
    """
    if os.path.exists(path) and not is_own_output(path):
        raise DataError(
            f"{os.fspath(path)}: exists, and was not written by keras-recnet, so it is not overwritten. Choose another "
            f"output folder."
        )


def names_image_file(out: str) -> bool:
    """Return whether `out` is a file to write rather than a folder, judging by its suffix.

    Raises:
        ValueError: if the suffix is of an image format that cannot be written.
    """
    suffix = os.path.splitext(out)[1].lower()
    if suffix not in SUFFIXES or os.path.isdir(out):
        return False
    if suffix not in FORMATS:
        raise ValueError(f"{out!r}: outputs are written as {', '.join(FORMATS)}. Choose one of these suffixes.")
    return True


def _search(text, excluded, on_error):
    if text == STANDARD_STREAM:
        yield InputImage(STANDARD_STREAM, Path("stdin"))
    elif os.path.isdir(text):
        yield from _walk(text, text, excluded, on_error)
    elif os.path.exists(text):
        yield InputImage(text, Path(Path(text).name))
    elif glob.has_magic(text):
        base = os.path.join("", *_before_magic(text))
        real_base = os.path.realpath(base or ".")
        if excluded is not None and (excluded == real_base or not _inside(excluded, real_base)):
            excluded = None  # `plan_jobs` refuses the folder of an image
        for match in sorted(glob.glob(text, recursive=True)):
            if os.path.isdir(match):
                yield from _walk(match, base, excluded, on_error)
            elif _is_image(match) and not (is_device(match) or _inside(match, excluded) or is_own_output(match)):
                yield InputImage(match, Path(os.path.relpath(match, base or ".")))


def _walk(folder, base, excluded, on_error):
    for here, _, names in walk(folder, SUFFIXES, skip=excluded, on_error=on_error):
        for name in names:
            path = os.path.join(here, name)
            if not is_own_output(path):
                yield InputImage(path, Path(os.path.relpath(path, base or ".")))


def _before_magic(pattern):
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return parts[:first]


def _is_image(path):
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _inside(path, folder):
    return folder is not None and Path(os.path.realpath(path)).is_relative_to(folder)


def _unreadable(error):
    return f"{error.filename}: the folder cannot be read ({error.strerror}). Check its permissions."


def _no_images(text):
    if os.path.isdir(text):
        return f"{text}: no images in this folder, or only earlier outputs (looked for {', '.join(sorted(SUFFIXES))})."
    if glob.has_magic(text):
        return f"{text}: no image matches this pattern."
    return f"{text}: no such file or folder. Check the path."


def _has_namesake(path, names_in):
    if path == STANDARD_STREAM:
        return False
    folder, name = os.path.split(path)
    others = [other for other in names_in(folder or ".")[_stem(name)] if other != name]
    return any(not is_own_output(os.path.join(folder, other)) for other in others)


def _names_in(folder):
    names = collections.defaultdict(list)
    with contextlib.suppress(PermissionError):  # a folder may be searchable but not readable
        for name in filter(_is_image, os.listdir(folder)):
            names[_stem(name)].append(name)
    return names


def _stem(name):
    return os.path.splitext(name)[0].casefold()  # some file systems ignore case
