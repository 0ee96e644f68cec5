"""Datasets for evaluation: find masks and the maps that belong to them, in folders or a YAML list."""

import dataclasses
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import yaml

from keras_recnet.errors import ConfigError, DataError, validation_message
from keras_recnet.evaluation.map_files import MAP_SUFFIXES, MASK_SUFFIXES
from keras_recnet.files import named_files, read_names
from keras_recnet.imaging.reading import SUFFIXES, without_suffix
from keras_recnet.parallel import Shard
from keras_recnet.pipelines import Group, Pair, split_groups

PARTS = ("train", "test")  # the two halves of a split


@dataclasses.dataclass(frozen=True)
class Fault:
    """A file that could not be scored.

    Attributes:
        data_set: name of the dataset.
        kind: `"missing map"`, `"map without mask"`, `"unreadable"`, or for presets `"image without mask"` or
            `"unreadable image"`.
        message: names the file and the problem.
        method: the method of the map; None for a mask, which affects all methods.
        allowed: whether the fault is only a warning.
    """

    data_set: str
    kind: str
    message: str
    method: str | None = None
    allowed: bool = False


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Masks and the saliency maps of one or more methods.

    A map belongs to the mask with the same path, ignoring suffixes: `MAPS/a/1.jpg` belongs to `MASKS/a/1.png`.

    Args:
        name: name in tables.
        masks: folder of masks.
        maps: method → folder of its maps.
        images: folder of images, for the thumbnails of the report and for presets.
        grouped: whether each subfolder of `masks` is a group (co-saliency). Adds means over groups.
        published: name of the dataset in the papers, to add their rows.
        names: file with the names to score, one per line, for example a validation list. None scores all masks.
        split: `(seed, part)` scores only the part `"train"` or `"test"`, half of the images of each group; the split is
            that of `keras_recnet.pipelines.split_groups` and `data.split`. None scores all.
        shard: the part of the masks to score (in a grouped dataset, of the groups); None scores all.
        draws: whether each group has a subfolder per draw, see `keras_recnet.evaluation.subgroups`.
    """

    name: str
    masks: Path
    maps: Mapping[str, Path]
    images: Path | None = None
    grouped: bool = False
    published: str | None = None
    names: Path | None = None
    split: tuple[int, str] | None = None
    shard: Shard | None = None
    draws: bool = False

    @property
    def is_subset(self) -> bool:
        """Whether some masks may be left out on purpose, so that a map or image without a mask is not a fault."""
        return self.names is not None or self.split is not None

    def selected(self, masks: dict[str, Path]) -> dict[str, Path]:
        """Return the masks of the shard; all if there is no shard."""
        if self.shard is None:
            return masks
        if not self.grouped:
            return {name: masks[name] for name in self.shard.select(list(masks))}
        groups = self.shard.select(sorted({_group_of(name) for name in masks}))
        return {name: path for name, path in masks.items() if _group_of(name) in groups}


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The files of a dataset, by name.

    Attributes:
        masks: name → file, sorted.
        maps: method → name → file, only maps that have a mask.
        images: name → file.
        faults: masks without a map and, except in a shard, maps without a mask.
    """

    masks: dict[str, Path]
    maps: dict[str, dict[str, Path]]
    images: dict[str, Path]
    faults: list[Fault]


def pair(data_set: DataSet, *, allow_missing: bool = False) -> Pairs:
    """Find the files of a dataset.

    Args:
        data_set: the dataset.
        allow_missing: whether a mask without a map, or a map without a mask, is allowed.

    Raises:
        DataError: if a folder does not exist or contains nothing to score, two files have the same name, or a mask of a
            grouped dataset is not in a group.
    """
    masks = masks_of(data_set)
    selected = masks.keys() if data_set.is_subset else None
    not_in_a_group = [name for name in masks if "/" not in name]
    if data_set.grouped and not_in_a_group:
        raise DataError(
            f"{masks[not_in_a_group[0]]}: is not in a group. With --grouped, each group is a subfolder of "
            f"{data_set.masks}. Move {len(not_in_a_group)} file(s), or omit --grouped."
        )
    images = files_by_name(data_set.images, SUFFIXES, "images") if data_set.images else {}
    scored, maps, faults = data_set.selected(masks), {}, []
    for method, folder in data_set.maps.items():
        files = files_by_name(folder, MAP_SUFFIXES, f"maps of {method}", selected)
        maps[method] = {name: path for name, path in files.items() if name in scored}
        if not masks.keys() & files.keys():
            raise DataError(
                f"{folder}: no map has the name of a mask in {data_set.masks}. Check the folder. "
                f"Received: {_some(files)} for {_some(masks)}"
            )
        for name in scored.keys() - files.keys():
            message = f"{masks[name]}: no map of this name in {folder}."
            faults.append(Fault(data_set.name, "missing map", message, method, allow_missing))
        # every shard would report the same ones
        for name in () if data_set.shard else files.keys() - masks.keys():
            message = f"{files[name]}: no mask of this name in {data_set.masks}."
            faults.append(Fault(data_set.name, "map without mask", message, method, allow_missing))
    faults.sort(key=lambda fault: (list(maps).index(fault.method), fault.kind, fault.message))
    return Pairs(scored, maps, images, faults)


def masks_of(data_set: DataSet) -> dict[str, Path]:
    """Return name → mask for the masks to score.

    Raises:
        DataError: if the folder does not exist or is empty, or a listed name has no mask.
    """
    masks = files_by_name(data_set.masks, MASK_SUFFIXES, "masks")
    if data_set.split is not None:
        if not data_set.grouped:
            raise ConfigError(f"{data_set.name}: a split halves the images of each group. It needs groups (--grouped).")
        masks = _half(masks, *data_set.split)
    if data_set.names is None:
        return masks
    names = dict.fromkeys(map(without_suffix, read_names(data_set.names)))
    missing = [name for name in names if name not in masks]
    if missing:
        raise DataError(
            f"{data_set.names}: {len(missing)} of {len(names)} names have no mask in {data_set.masks}. Write one name "
            f"per line. Received: {_some(missing)}"
        )
    return {name: masks[name] for name in sorted(names)}


def _half(masks, seed, part):
    """Return the masks of one half of the images of each group."""
    groups = {}
    for name, mask in masks.items():
        groups.setdefault(name.rpartition("/")[0], []).append(Pair(name, mask, mask))
    halves = split_groups([Group(name, pairs) for name, pairs in groups.items()], seed=seed)
    names = {pair.name for group in halves[PARTS.index(part)] for pair in group.pairs}
    return {name: mask for name, mask in masks.items() if name in names}


def files_by_name(
    folder: str | os.PathLike, suffixes: frozenset[str], what: str, selected: Collection[str] | None = None
) -> dict[str, Path]:
    """Return name → file for the files of a folder, sorted. The name is the path inside the folder, without suffix.

    Args:
        folder: the folder, searched with its subfolders.
        suffixes: list only files with one of these suffixes.
        what: name of the files in messages.
        selected: list only these names; None lists all.

    Raises:
        DataError: if the folder does not exist or contains no such file, if it or a subfolder cannot be read, or if two
            files differ only in their suffix.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder ({what}).")
    files, errors = {}, []
    for name, path in named_files(folder, suffixes, on_error=errors.append):
        if selected is not None and name not in selected:
            continue
        if name in files:
            raise DataError(f"{path}: {files[name].name} has the same name. Keep one of them ({what}).")
        files[name] = path
    if errors:
        raise DataError("\n".join(f"{error.filename}: cannot be read ({error.strerror})." for error in errors))
    if not files:
        raise DataError(f"{folder}: no {what} in this folder (looked for {', '.join(sorted(suffixes))}).")
    return dict(sorted(files.items()))


def method_and_folder(text: str) -> tuple[str, Path]:
    """Parse `"NAME=DIR"`, or `"DIR"` for a method that is named after its folder.

    Raises:
        ConfigError: if the name or the folder is empty.
    """
    name, equals, folder = text.partition("=")
    if not equals:
        name, folder = Path(text).name, text
    if not name or not folder:
        raise ConfigError(f"--maps expects NAME=DIR, for example ours=maps/ours. Received: {text!r}")
    return name, Path(folder)


def default_name(masks: str | os.PathLike) -> str:
    """Return the default name of a dataset: `ECSSD` for the masks in `ECSSD/masks` or `ECSSD`."""
    path = Path(os.path.abspath(masks))
    return path.parent.name if path.name.lower() in ("masks", "mask", "gt", "groundtruth") else path.name


def read_list(path: str | os.PathLike) -> list[DataSet]:
    """Read a YAML list of datasets. Relative paths are relative to the folder of the list.

    Raises:
        ConfigError: if the file cannot be read, or an entry has an unknown key or an invalid value.

    Example:
        Two datasets, the second one grouped:

            - name: ECSSD
              images: ECSSD/images        # optional: for the report; required by --preset
              masks: ECSSD/masks
              maps: {ours: maps/ecssd}    # optional with --preset
              published: ECSSD            # optional: adds the papers' numbers
            - name: Cosal2015
              masks: Cosal2015/masks
              maps: {ours: maps/cosal}
              grouped: true
              split: {seed: 0, part: test}  # optional: half of the images of each group
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: must be a list of datasets (- name: …, masks: …). Received: {entries!r}")
    data_sets = [_from_entry(entry, f"{path}: entry {number}", path) for number, entry in enumerate(entries, 1)]
    check_names(data_sets, path)
    return data_sets


def check_names(data_sets: list[DataSet], source: str | os.PathLike) -> None:
    """Raise a `ConfigError` if two datasets have the same name."""
    names = [data_set.name for data_set in data_sets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{source}: {names.count(name)} datasets are named {name!r}. Rename them.")


def _from_entry(entry, source, path):
    import pydantic

    class Split(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid", strict=True)

        seed: int = pydantic.Field(default=0, ge=0)
        part: Literal[PARTS] = "test"

    class Entry(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid", strict=True)

        masks: str
        name: str | None = pydantic.Field(default=None, min_length=1)
        images: str | None = None
        maps: dict[str, str] = {}
        grouped: bool = False
        published: str | None = None
        names: str | None = None
        split: Split | None = None

    try:
        fields = Entry.model_validate(entry)
    except pydantic.ValidationError as error:
        messages = [
            validation_message(detail, ".".join(map(str, detail["loc"])), Entry.model_fields)
            for detail in error.errors()
        ]
        raise ConfigError("\n".join(f"{source}: {message}" for message in messages)) from None
    folder = Path(path).parent
    return DataSet(
        name=fields.name or default_name(folder / fields.masks),
        masks=folder / fields.masks,
        maps={method: folder / maps for method, maps in fields.maps.items()},
        images=fields.images and folder / fields.images,
        grouped=fields.grouped,
        published=fields.published,
        names=fields.names and folder / fields.names,
        split=fields.split and (fields.split.seed, fields.split.part),
    )


def _group_of(name):
    return os.path.dirname(name)


def _some(names):
    return ", ".join(list(names)[:3]) + (", …" if len(names) > 3 else "")
