"""A preset's maps of a data set, as files to be scored: which are still to be made.

They lie in `OUT/maps/SET/PRESET-SUM`, where SUM tells one state of a preset from the next: a preset that was trained
anew gets a folder of its own. A map is made again when its photograph is younger. So a run that was killed goes on.
"""

import dataclasses
import os
from pathlib import Path

from keras_recnet import presets
from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.datasets import DataSet, Fault, files_by_name, masks_of
from keras_recnet.evaluation.figures import slug
from keras_recnet.files import disk_errors, sha256
from keras_recnet.imaging.reading import SUFFIXES
from keras_recnet.inference.group_inputs import GroupTask
from keras_recnet.inference.inputs import Task


@dataclasses.dataclass(frozen=True)
class Making:
    """What is to be predicted before a data set can be scored.

    Attributes:
        data_set: with the preset among its methods.
        tasks: photographs and the maps to write, for `keras_recnet.inference.outputs.Batch.run`; of a preset for groups
            `GroupTask`s for `keras_recnet.inference.group_outputs.GroupBatch.run`.
        pictures: how many there are in the tasks.
        faults: photographs without a mask.
        of_groups: whether the preset is for groups.
    """

    data_set: DataSet
    tasks: list[Task] | list[GroupTask]
    pictures: int
    faults: list[Fault]
    of_groups: bool


def plan(
    data_set: DataSet, preset: str, out: str | os.PathLike, *, name: str | None = None, allow_missing: bool = False
) -> Making:
    """Finds the photographs of a data set whose maps by a preset are not there yet.

    A preset for groups makes all maps of a group when one is missing.

    Args:
        data_set: with a folder of images.
        preset: name of a preset that ships, or a preset's folder.
        name: what the method is called; None: as the preset.
        out: the evaluation's folder.
        allow_missing: a photograph without a mask is no error.

    Raises:
        ConfigError: if the set has no images, or a method of the preset's name, or no groups for a preset of groups.
        DataError: if a folder is not there or is empty.
        PresetError: if there is no such preset.
    """
    found = presets.find(preset)
    if data_set.images is None:
        raise ConfigError(f"{data_set.name}: a preset's maps need photographs. Name their folder (--images DIR).")
    name = name or found.name
    if name in data_set.maps:
        raise ConfigError(f"{data_set.name}: two methods are called {name!r}. Give one another name (NAME=…).")
    of_groups = found.task == presets.COSALIENCY
    if of_groups and not data_set.grouped:
        raise ConfigError(f"{data_set.name}: {name} is a preset for groups: every sub-folder must be one (--grouped).")
    state = sha256(found.folder / presets.CONFIG)[:8]  # it holds the sums of all other files
    folder = Path(out) / "maps" / slug(data_set.name) / f"{slug(name)}-{state}"
    masks = masks_of(data_set)
    images = files_by_name(data_set.images, SUFFIXES, "images", masks.keys() if data_set.names else None)
    groups, to_do, faults = {}, set(), []
    for picture, image in images.items():
        if picture not in masks:
            message = f"{image}: no mask of this name in {data_set.masks}."
            faults.append(Fault(data_set.name, "photograph without mask", message, name, allow_missing))
            continue
        target = folder / f"{picture}.png"
        group = Path(picture).parent.as_posix() if of_groups else picture
        groups.setdefault(group, []).append(Task(str(image), {"mask": target}))
        if not target.is_file() or target.stat().st_mtime_ns < image.stat().st_mtime_ns:
            to_do.add(group)
    tasks = [
        GroupTask(group, str(Path(data_set.images) / group), members) if of_groups else members[0]
        for group, members in groups.items()
        if group in to_do
    ]
    pictures = sum(len(groups[group]) for group in to_do)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    named = dataclasses.replace(data_set, maps={**data_set.maps, name: folder})
    return Making(named, tasks, pictures, faults, of_groups)


def failed(making: Making, error: str) -> Fault:
    """The fault of a photograph that could not be predicted."""
    return Fault(making.data_set.name, "unreadable photograph", error, list(making.data_set.maps)[-1])
