"""Predict the maps that a preset makes for a data set.

The maps are written to `OUT/maps/SET/METHOD-CHECKSUM`. The checksum identifies the files of the preset, so a retrained
preset gets a new folder. A map is predicted only if it is missing or older than its image, so an interrupted run
resumes.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_recnet import presets
from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.datasets import DataSet, Fault, files_by_name, masks_of
from keras_recnet.evaluation.figures import slug
from keras_recnet.files import disk_errors, sha256
from keras_recnet.imaging.reading import SUFFIXES
from keras_recnet.inference.group_inputs import GroupJob
from keras_recnet.inference.inputs import ImageJob

Progress = Callable[[int], contextlib.AbstractContextManager[Callable[[float], None]]]


@contextlib.contextmanager
def no_progress(total: int):
    """Show no progress bar."""
    yield lambda count=1: None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The maps to predict for a data set.

    Attributes:
        data_set: the data set with the preset added to its methods.
        tasks: `ImageJob`s for `keras_recnet.inference.outputs.write_maps`; for a co-saliency preset `GroupJob`s for
            `keras_recnet.inference.group_outputs.write_group_maps`.
        images: number of images in the tasks.
        faults: images without a mask.
    """

    data_set: DataSet
    tasks: list[ImageJob] | list[GroupJob]
    images: int
    faults: list[Fault]


def predict_maps(
    data_sets: Iterable[DataSet],
    methods: Iterable[str],
    out: str | os.PathLike,
    *,
    allow_missing: bool = False,
    load: Callable = lambda predictor, preset: predictor(preset),
    progress: Progress = no_progress,
) -> tuple[list[DataSet], list[Fault]]:
    """Predict the maps of presets that are missing or out of date.

    Args:
        data_sets: the data sets, each with a folder of images.
        methods: the presets: name or folder of each, or `NAME=PRESET` to choose the name of the method.
        out: the output folder of the evaluation.
        allow_missing: whether an image without a mask is allowed.
        load: creates a predictor, given its class and the preset.
        progress: called with the number of images, returns a context manager that yields a function to call
            with the number of finished images.

    Returns:
        The data sets with the presets added to their methods, and the images that could not be predicted or have no
        mask.

    Raises:
        ConfigError: if a data set has no images, has a method of the same name already, or has no groups although the
            preset needs them.
        DataError: if a folder does not exist or is empty.
        DiskError: if a map cannot be written.
        PresetError: if a preset does not exist or cannot be loaded.
    """
    data_sets, faults = list(data_sets), []
    for method in methods:
        name, _, preset = method.rpartition("=")
        preset = presets.find(preset)
        predictor = None
        for index, data_set in enumerate(data_sets):
            plan = plan_maps(data_set, preset, out, name=name or preset.name, allow_missing=allow_missing)
            data_sets[index] = plan.data_set
            faults += plan.faults
            if not plan.tasks:
                continue
            predictor = predictor or load(_predictor_class(preset), preset.folder)
            errors = _predict(preset, predictor, plan, progress)
            faults += [Fault(data_set.name, "unreadable image", error, name or preset.name) for error in errors]
    return data_sets, faults


def plan_maps(data_set: DataSet, preset, out: str | os.PathLike, *, name: str, allow_missing: bool) -> Plan:
    """Find the images of a data set whose maps are missing or older than the image.

    If one map of a group is missing, a co-saliency preset predicts the whole group.
    """
    if data_set.images is None:
        raise ConfigError(f"{data_set.name}: a preset needs images. Add their folder (--images DIR).")
    if name in data_set.maps:
        raise ConfigError(f"{data_set.name}: two methods are named {name!r}. Rename one of them (NAME=…).")
    needs_groups = preset.task == presets.COSALIENCY
    if needs_groups and not data_set.grouped:
        raise ConfigError(f"{data_set.name}: {name} is a co-saliency preset and needs groups (--grouped).")
    checksum = sha256(preset.folder / presets.CONFIG)[:8]  # the configuration contains the checksums of all other files
    folder = Path(out) / "maps" / slug(data_set.name) / f"{slug(name)}-{checksum}"
    masks = masks_of(data_set)
    images = files_by_name(data_set.images, SUFFIXES, "images", masks.keys() if data_set.names else None)
    groups, outdated, faults = {}, set(), []
    for image_name, image in images.items():
        if image_name not in masks:
            message = f"{image}: no mask of this name in {data_set.masks}."
            faults.append(Fault(data_set.name, "image without mask", message, name, allow_missing))
            continue
        target = folder / f"{image_name}.png"
        group = Path(image_name).parent.as_posix() if needs_groups else image_name
        groups.setdefault(group, []).append(ImageJob(str(image), {"mask": target}))
        if not target.is_file() or target.stat().st_mtime_ns < image.stat().st_mtime_ns:
            outdated.add(group)
    groups = {group: tasks for group, tasks in groups.items() if group in outdated}
    tasks = [
        GroupJob(group, str(Path(data_set.images) / group), members) if needs_groups else members[0]
        for group, members in groups.items()
    ]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    data_set = dataclasses.replace(data_set, maps={**data_set.maps, name: folder})
    return Plan(data_set, tasks, sum(map(len, groups.values())), faults)


def _predict(preset, predictor, plan, progress):
    """Predict the maps of a plan and return the error messages."""
    from keras_recnet.inference.group_outputs import write_group_maps
    from keras_recnet.inference.outputs import OutputWriter, write_maps

    write = write_group_maps if preset.task == presets.COSALIENCY else write_maps
    with progress(plan.images) as advance:
        results = write(predictor, plan.tasks, OutputWriter(), advance=advance)
        return [result.error for result in results if result.error]


def _predictor_class(preset):
    if preset.task == presets.COSALIENCY:
        from keras_recnet.inference.group_predictor import GroupPredictor

        return GroupPredictor
    from keras_recnet.inference.predictor import Predictor

    return Predictor
