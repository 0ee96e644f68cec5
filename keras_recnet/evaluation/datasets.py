"""Which maps belong to which masks: data sets from folders or a YAML list, and what has no partner."""

import dataclasses
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

from keras_recnet.errors import ConfigError, DataError, validation_message
from keras_recnet.evaluation.map_files import MAP_SUFFIXES, MASK_SUFFIXES
from keras_recnet.files import named_files, read_names
from keras_recnet.imaging.reading import SUFFIXES, without_suffix

# A fault by which a file is not scored, and those of them that `allow_missing` allows.
MISSING = ("missing map", "map without mask")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A file that could not be scored.

    Attributes:
        data_set: the data set's name.
        kind: `"missing map"`, `"map without mask"`, `"missing image"` or `"unreadable"`.
        message: names the file and the way out.
        method: whose map it is; None for a mask, which concerns all methods.
        allowed: listed, but no error.
    """

    data_set: str
    kind: str
    message: str
    method: str | None = None
    allowed: bool = False


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Masks, and the maps that one or many methods made for them.

    A map belongs to the mask of the same name, sub-folders included and suffixes aside: `MAPS/a/1.png` to
    `MASKS/a/1.png`.

    Args:
        name: what tables call it.
        masks: folder of masks.
        maps: method → folder of its maps.
        images: folder of the photographs, for the report's pictures.
        grouped: every sub-folder of `masks` is a group (co-saliency): means are taken over groups as well.
        published: the data set of the papers' tables whose rows stand beside; None: none.
        names: file with the names to score, one a line, such as a validation list; None: all masks.
    """

    name: str
    masks: Path
    maps: Mapping[str, Path]
    images: Path | None = None
    grouped: bool = False
    published: str | None = None
    names: Path | None = None


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The files of a data set, by name.

    Attributes:
        masks: name → file, sorted.
        maps: method → name → file, of those with a mask.
        images: name → file.
        faults: what has no partner.
    """

    masks: dict[str, Path]
    maps: dict[str, dict[str, Path]]
    images: dict[str, Path]
    faults: list[Fault]


def pair(data_set: DataSet, *, allow_missing: bool = False) -> Pairs:
    """Finds the files of a data set.

    Args:
        data_set: its folders.
        allow_missing: a mask without a map, and the reverse, are no error.

    Raises:
        DataError: if a folder is not there or holds nothing to score, two files have one name, or a mask of a grouped
            set lies in no group.
    """
    masks = masks_of(data_set)
    chosen = masks.keys() if data_set.names else None
    loose = [name for name in masks if "/" not in name]
    if data_set.grouped and loose:
        raise DataError(
            f"{masks[loose[0]]}: lies in no group. In a grouped set every group is a sub-folder of {data_set.masks}. "
            f"Move {len(loose)} file(s), or leave --grouped out."
        )
    images = files_by_name(data_set.images, SUFFIXES, "images") if data_set.images else {}
    maps, faults = {}, []
    for method, folder in data_set.maps.items():
        found = files_by_name(folder, MAP_SUFFIXES, f"maps of {method}", chosen)
        maps[method] = {name: path for name, path in found.items() if name in masks}
        if not maps[method]:
            raise DataError(
                f"{folder}: no map has the name of a mask in {data_set.masks}. Is it the right folder? "
                f"Received: {_some(found)} for {_some(masks)}"
            )
        for name in masks.keys() - found.keys():
            message = f"{masks[name]}: no map of this name in {folder}."
            faults.append(Fault(data_set.name, "missing map", message, method, allow_missing))
        for name in found.keys() - masks.keys():
            message = f"{found[name]}: no mask of this name in {data_set.masks}."
            faults.append(Fault(data_set.name, "map without mask", message, method, allow_missing))
    faults.sort(key=lambda fault: (list(maps).index(fault.method), fault.kind, fault.message))
    return Pairs(masks, maps, images, faults)


def masks_of(data_set: DataSet) -> dict[str, Path]:
    """Name → mask, of the names that are to be scored.

    Raises:
        DataError: if the folder is not there or empty, or a name that is listed has no mask.
    """
    masks = files_by_name(data_set.masks, MASK_SUFFIXES, "masks")
    if data_set.names is None:
        return masks
    names = dict.fromkeys(map(without_suffix, read_names(data_set.names)))
    lacking = [name for name in names if name not in masks]
    if lacking:
        raise DataError(
            f"{data_set.names}: {len(lacking)} of {len(names)} names have no mask in {data_set.masks}. Write one name "
            f"per line. Received: {_some(lacking)}"
        )
    return {name: masks[name] for name in sorted(names)}


def files_by_name(
    folder: str | os.PathLike, suffixes: frozenset[str], what: str, chosen: Collection[str] | None = None
) -> dict[str, Path]:
    """Path below `folder` without its suffix → file, sorted; hidden ones and those not `chosen` are left out.

    Raises:
        DataError: if the folder is not there, holds no such file, or two of them differ by their suffix alone.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder ({what}). Check the path.")
    found = {}
    for name, path in named_files(folder, suffixes):
        if chosen is not None and name not in chosen:
            continue
        if name in found:
            raise DataError(f"{path}: {found[name].name} has the same name. Keep one of them ({what}).")
        found[name] = path
    if not found:
        raise DataError(f"{folder}: no {what} in this folder (looked for {', '.join(sorted(suffixes))}).")
    return dict(sorted(found.items()))


def method_and_folder(text: str) -> tuple[str, Path]:
    """`"NAME=DIR"`, or `"DIR"` whose last part is the name.

    Raises:
        ConfigError: if one of the two is empty.
    """
    name, equals, folder = text.partition("=")
    if not equals:
        name, folder = Path(text).name, text
    if not name or not folder:
        raise ConfigError(f"--maps expects NAME=DIR, such as ours=maps/ours. Received: {text!r}")
    return name, Path(folder)


def default_name(masks: str | os.PathLike) -> str:
    """The data set's name by its masks' folder: `ECSSD` for `ECSSD/masks` and for `ECSSD`."""
    path = Path(os.path.abspath(masks))
    return path.parent.name if path.name.lower() in ("masks", "mask", "gt", "groundtruth") else path.name


def read_list(path: str | os.PathLike) -> list[DataSet]:
    """Reads a YAML list of data sets; relative folders are taken from the list's own folder.

    Raises:
        ConfigError: if it cannot be read, or an entry has an unknown key or a wrong value.

    Example:
        A list of two, the second grouped:

            - name: ECSSD
              images: ECSSD/images        # optional: for the report's pictures, needed with --preset
              masks: ECSSD/masks
              maps: {ours: maps/ecssd}    # optional with --preset
              published: ECSSD            # optional: the papers' rows beside
            - name: Cosal2015
              masks: Cosal2015/masks
              maps: {ours: maps/cosal}
              grouped: true
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: must be a list of data sets (- name: …, masks: …). Received: {entries!r}")
    sets = [_from_entry(entry, f"{path}: entry {number}", path) for number, entry in enumerate(entries, 1)]
    check_names(sets, path)
    return sets


def check_names(sets: list[DataSet], where: str | os.PathLike) -> None:
    """Raises ConfigError if two data sets have one name."""
    names = [data_set.name for data_set in sets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: {names.count(name)} data sets are called {name!r}. Give each its own name.")


def _from_entry(entry, where, path):
    import pydantic

    class Entry(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid", strict=True)

        masks: str
        name: str | None = pydantic.Field(default=None, min_length=1)
        images: str | None = None
        maps: dict[str, str] = {}
        grouped: bool = False
        published: str | None = None
        names: str | None = None

    try:
        read = Entry.model_validate(entry)
    except pydantic.ValidationError as error:
        messages = [
            validation_message(detail, ".".join(map(str, detail["loc"])), Entry.model_fields)
            for detail in error.errors()
        ]
        raise ConfigError("\n".join(f"{where}: {message}" for message in messages)) from None
    folder = Path(path).parent
    return DataSet(
        name=read.name or default_name(folder / read.masks),
        masks=folder / read.masks,
        maps={method: folder / maps for method, maps in read.maps.items()},
        images=read.images and folder / read.images,
        grouped=read.grouped,
        published=read.published,
        names=read.names and folder / read.names,
    )


def _some(found):
    return ", ".join(list(found)[:3]) + (", …" if len(found) > 3 else "")
