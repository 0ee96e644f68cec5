"""A preset's maps of a data set, as files to be scored: which are still to be made.

They lie in `OUT/maps/SET/PRESET-SUM`, where SUM tells one state of a preset from the next: a preset that was trained
anew gets a folder of its own. A map is made again when its photograph is younger. So a run that was killed goes on.
"""

import dataclasses
import os
from pathlib import Path

from keras_recnet import presets
from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.figures import slug
from keras_recnet.evaluation.sets import DataSet, Fault, files_by_name, masks_of
from keras_recnet.files import sha256
from keras_recnet.imaging.finding import Task
from keras_recnet.imaging.reading import SUFFIXES


@dataclasses.dataclass(frozen=True)
class Making:
    """What is to be predicted before a data set can be scored.

    Attributes:
        data_set: with the preset among its methods.
        tasks: photographs and the maps to write, for `keras_recnet.batch.Batch.run`.
        faults: photographs without a mask.
    """

    data_set: DataSet
    tasks: list[Task]
    faults: list[Fault]


def plan(data_set: DataSet, preset: str, out: str | os.PathLike, *, allow_missing: bool = False) -> Making:
    """Finds the photographs of a data set whose maps by a preset are not there yet.

    Args:
        data_set: with a folder of images.
        preset: name of a preset that ships, or a preset's folder.
        out: the evaluation's folder.
        allow_missing: a photograph without a mask is no error.

    Raises:
        ConfigError: if the set has no images, or a method of the preset's name.
        DataError: if a folder is not there or is empty.
        PresetError: if there is no such preset.
    """
    found = presets.find(preset)
    if data_set.images is None:
        raise ConfigError(f"{data_set.name}: a preset's maps need photographs. Name their folder (--images DIR).")
    if found.name in data_set.maps:
        raise ConfigError(f"{data_set.name}: two methods are called {found.name!r}. Give the maps another name.")
    state = sha256(found.folder / presets.CONFIG)[:8]  # it holds the sums of all other files
    folder = Path(out) / "maps" / slug(data_set.name) / f"{slug(found.name)}-{state}"
    masks = masks_of(data_set)
    images = files_by_name(data_set.images, SUFFIXES, "images", masks.keys() if data_set.names else None)
    tasks, faults = [], []
    for name, image in images.items():
        if name not in masks:
            message = f"{image}: no mask of this name in {data_set.masks}."
            faults.append(Fault(data_set.name, "photograph without mask", message, found.name, allow_missing))
            continue
        target = folder / f"{name}.png"
        if not target.is_file() or target.stat().st_mtime_ns < image.stat().st_mtime_ns:
            tasks.append(Task(str(image), {"mask": target}))
    folder.mkdir(parents=True, exist_ok=True)
    return Making(dataclasses.replace(data_set, maps={**data_set.maps, found.name: folder}), tasks, faults)


def failed(making: Making, error: str) -> Fault:
    """The fault of a photograph that could not be predicted."""
    return Fault(making.data_set.name, "unreadable photograph", error, list(making.data_set.maps)[-1])
