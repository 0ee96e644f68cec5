"""Find the images of a bulk job, on local and remote file systems, and name the outputs."""

import collections
import dataclasses
import functools
import os
import posixpath
from collections.abc import Iterable
from pathlib import Path

from keras_recnet.bulk import storage
from keras_recnet.errors import DataError
from keras_recnet.imaging.reading import SUFFIXES
from keras_recnet.inference.inputs import InputImage, check_overwriting, find_images


@dataclasses.dataclass(frozen=True)
class Item:
    """An image or a group: the unit that a worker processes.

    Attributes:
        name: the path of the image, or the name of the group; unique in the job.
        paths: path or URI of each image.
        outputs: relative path of each image's map in the output folder.
    """

    name: str
    paths: list[str]
    outputs: list[str]


def find_items(
    inputs: Iterable[str], out: str, *, grouped: bool, files: bool = True
) -> tuple[list[Item], list[tuple[str, str]]]:
    """List the images or groups in `inputs`.

    Args:
        inputs: local files, folders and patterns, see `keras_recnet.inference.inputs.find_images`, and URIs of remote
            files and folders.
        out: the output folder, which is left out if it is inside an input folder.
        grouped: whether each folder that contains images is a group.
        files: whether each map becomes a file in `out`.

    Returns:
        The items, and `(input, message)` for each input that matches no image.

    Raises:
        DataError: if two maps would have the same path, or a map would be written into the folder of its image or
            overwrite a file of another program.
    """
    images, problems = {}, []
    for location in inputs:
        if storage.is_local(location):
            matches, faults = find_images([location], outside=out if storage.is_local(out) else None)
            found = [(os.path.abspath(match.path), match) for match in matches]
            problems += faults
        else:
            try:
                files = storage.find(location, SUFFIXES)
            except DataError as error:
                problems.append((location, str(error)))
                continue
            found = [(uri, InputImage(uri, Path(relative))) for uri, relative in files if not _inside(uri, out)]
            if not found:
                problems.append((location, f"{location}: no images in this folder."))
        for key, image in found:
            images.setdefault(key, image)
    if grouped:
        images = {
            key: InputImage(image.path, Path(_folder_name(key), image.relative)) if _at_top(image) else image
            for key, image in images.items()
        }
    outputs = _outputs(images.values())
    if files and storage.is_local(out):
        _check_outputs(images, outputs, out)
    if not grouped:
        return [Item(key, [key], [output]) for key, output in zip(images, outputs, strict=True)], problems
    groups = collections.defaultdict(lambda: ([], []))
    for key, image, output in zip(images, images.values(), outputs, strict=True):
        paths, names = groups[image.relative.parent.as_posix()]
        paths.append(key)
        names.append(output)
    for name, (paths, _) in groups.items():
        folders = {posixpath.dirname(path) for path in paths}
        if len(folders) > 1:
            raise DataError(f"{', '.join(sorted(folders))}: two groups named {name}. Process them in separate runs.")
    return [Item(name, paths, names) for name, (paths, names) in groups.items()], problems


def _at_top(image):
    return image.relative.parent == Path()


def _folder_name(path):
    return posixpath.basename(posixpath.dirname(path))


def _inside(uri, folder):
    return uri.startswith(folder.rstrip("/") + "/")


def _outputs(images):
    """Return the relative path of each map: `NAME.png`, or `NAME.jpg.png` if another image has the same name."""
    relatives = [image.relative.as_posix() for image in images]
    counts = collections.Counter(_stem(relative) for relative in relatives)
    outputs = [
        f"{relative}.png" if counts[_stem(relative)] > 1 else f"{os.path.splitext(relative)[0]}.png"
        for relative in relatives
    ]
    taken = {}
    for output, image in zip(outputs, images, strict=True):
        other = taken.setdefault(output.casefold(), image.path)
        if other != image.path:
            raise DataError(
                f"{other!r} and {image.path!r} would both be written to {output!r}. Pass the folder that contains "
                f"both, or use different output folders."
            )
    return outputs


def _check_outputs(paths, outputs, out):
    """Raise an error if a map would be written into the folder of its image, or overwrite a file of another program."""
    real_folder = functools.cache(os.path.realpath)
    for path, output in zip(paths, outputs, strict=True):
        target = os.path.join(out, output)
        if storage.is_local(path) and real_folder(os.path.dirname(target)) == real_folder(os.path.dirname(path)):
            raise DataError(
                f"{out!r} is the folder of {path!r}, where maps would mix with the images. Choose another folder."
            )
        check_overwriting(target)


def _stem(relative):
    return os.path.splitext(relative)[0].casefold()  # some file systems ignore case
