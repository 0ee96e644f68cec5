"""Pair images with their masks, from two folders or a list file."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_recnet.errors import DataError
from keras_recnet.files import named_files, read_names
from keras_recnet.imaging.reading import SUFFIXES, without_suffix
from keras_recnet.pipelines.checks import problems_of_files
from keras_recnet.pipelines.pair_reading import Pair, PipelineDataError


def find_pairs(
    images: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
    *,
    names: str | os.PathLike | Sequence[str] | None = None,
    exclude: str | os.PathLike | Sequence[str] | None = None,
) -> list[Pair]:
    """Pair every image with the mask of the same name.

    A name is a path inside the folder without its suffix, so subfolders count: `images/cats/01.JPG` belongs to
    `masks/cats/01.png`. Hidden files and files without the suffix of an image format are ignored.

    Args:
        images: folder of images.
        masks: folder of masks. Both folders may be None when `names` is a list file of paths.
        names: the pairs to use, in this order; None uses all, sorted. A sequence of names, or the path of a list file
            with one entry per line: a name (a suffix is ignored), or the paths of an image and its mask separated by
            a tab or a space, relative to the list file or to the two folders.
        exclude: names to leave out, as a sequence or a list file, such as the names held out for validation. At least
            one must occur: if the list matched nothing, training would silently use the validation images.

    Returns:
        A list of `Pair`.

    Raises:
        PipelineDataError: naming every image without a mask, mask without an image, name without files, list that
            cannot be read, and so on. The pairs that were found are then decoded and checked, too.
    """
    if (images is None) != (masks is None) or (images is None and names is None):
        raise ValueError(
            "`find_pairs` needs a folder of images and one of masks, or a list file of paths. "
            f"Received: images={images!r}, masks={masks!r}, names={names!r}"
        )
    problems, same_names = [], []
    excluded = {without_suffix(entry) for entry in _entries(exclude, problems)}
    entries = _entries(names, problems)
    image_files = _files_by_name(images, "images", problems, same_names)
    mask_files = _files_by_name(masks, "masks", problems, same_names)
    if problems:  # without a folder or a list, no partner would be found
        raise PipelineDataError(problems + same_names)

    problems = same_names
    if names is None:
        pairs = _pairs_of_folders(image_files, mask_files, excluded, problems)
        present = image_files.keys()
    else:
        folders = [Path(folder) for folder in (images, masks) if folder is not None]
        base = Path(names).parent if isinstance(names, str | os.PathLike) else None
        pairs = [_pair_of_entry(e, image_files, mask_files, base, folders, problems) for e in entries]
        pairs = [pair for pair in pairs if pair is not None]
        present = {pair.name for pair in pairs}
        problems.extend(_duplicates(pairs))
        pairs = [pair for pair in pairs if pair.name not in excluded]
    if excluded and not excluded & present:
        example = sorted(excluded)[0]
        problems.append(
            f"exclude={exclude if isinstance(exclude, str | os.PathLike) else list(exclude)[:3]}: none of its "
            f"{len(excluded)} names ({example!r}, …) is among the images, so nothing would be held out"
        )
    if not problems and not pairs:
        problems.append(f"no pair is left: images={images}, names={names}, exclude={exclude}")
    if problems:
        raise PipelineDataError(problems + problems_of_files(pairs))
    return pairs


def find_images(folder: str | os.PathLike, kind: str = "images") -> dict[str, Path]:
    """Find the images in a folder and its subfolders.

    Args:
        folder: the folder.
        kind: what the files are, for error messages.

    Returns:
        Name → path, sorted; a name is the path inside the folder without suffix.

    Raises:
        PipelineDataError: if the folder does not exist or has no images, or naming every file with the same name as
            another.
    """
    problems = []
    files = _files_by_name(folder, kind, problems, problems)
    if problems:
        raise PipelineDataError(problems)
    return dict(sorted(files.items()))


def _files_by_name(folder, kind, problems, same_names):
    """Return {name: path} of the images in a folder and its subfolders."""
    files = {}
    if folder is None:
        return files
    for name, path in named_files(folder, SUFFIXES):
        if name in files:
            same_names.append(f"{path}: has the same name as {files[name]}, so its partner is ambiguous")
        files.setdefault(name, path)
    if not Path(folder).is_dir():
        problems.append(f"{folder}: the folder of {kind} does not exist")
    elif not files:
        problems.append(f"{folder}: no image in the folder of {kind}")
    return files


def _pairs_of_folders(image_files, mask_files, excluded, problems):
    wanted = [name for name in sorted(image_files) if name not in excluded]
    problems.extend(f"{image_files[name]}: image without mask" for name in wanted if name not in mask_files)
    problems.extend(
        f"{mask_files[name]}: mask without image"
        for name in sorted(mask_files)
        if name not in image_files and name not in excluded
    )
    return [Pair(name, image_files[name], mask_files[name]) for name in wanted if name in mask_files]


def _entries(names, problems):
    """Return the entries of a list file or of a sequence; a list that cannot be read is added to `problems`."""
    if not isinstance(names, str | os.PathLike):
        return [str(name) for name in names or ()]
    try:
        return read_names(names)
    except DataError as error:
        problems.append(str(error))
        return []


def _pair_of_entry(entry, image_files, mask_files, base, folders, problems):
    """Return the pair named by one line of a list; if there is none, add a problem and return None."""
    name = without_suffix(entry)
    if name in image_files and name in mask_files:
        return Pair(name, image_files[name], mask_files[name])
    # Paths may contain spaces, so every split is tried until both files exist.
    words = entry.split("\t") if "\t" in entry else entry.split(" ")
    for cut in range(1, len(words)):
        image = _existing(" ".join(words[:cut]).strip(), base, folders[:1])
        mask = _existing(" ".join(words[cut:]).strip(), base, folders[1:])
        if image and mask:
            return Pair(_name_of_path(image, base, folders[:1]), image, mask)
    where = f"line {entry!r} of the list"
    if name in image_files:
        problems.append(f"{where}: image without mask ({image_files[name]})")
    elif name in mask_files:
        problems.append(f"{where}: mask without image ({mask_files[name]})")
    elif len(words) > 1:
        problems.append(f"{where}: neither a name nor the paths of an image and a mask that exist")
    else:
        problems.append(f"{where}: no image of this name")
    return None


def _existing(text, base, folders):
    for folder in (*([base] if base is not None else []), *folders, Path()):
        if (folder / text).is_file():
            return folder / text
    return None


def _name_of_path(image, base, folders):
    for folder in (*folders, *([base] if base is not None else [])):
        if image.is_relative_to(folder):
            return image.relative_to(folder).with_suffix("").as_posix()
    return image.with_suffix("").as_posix()


def _duplicates(pairs):
    seen = set()
    for pair in pairs:
        if pair.name in seen:
            yield f"{pair.name}: occurs twice in the list"
        seen.add(pair.name)
