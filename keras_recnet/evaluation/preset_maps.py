"""Predict the maps of a preset for a dataset.

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
from keras_recnet.inference.outputs import OutputWriter

Progress = Callable[[int], contextlib.AbstractContextManager[Callable[[float], None]]]


@contextlib.contextmanager
def no_progress(total: int):
    """Show no progress bar."""
    yield lambda count=1: None


def predict_maps(
    data_sets: Iterable[DataSet],
    methods: Iterable[str],
    out: str | os.PathLike,
    *,
    allow_missing: bool = False,
    load: Callable = lambda predictor, preset: predictor(preset),
    progress: Progress = no_progress,
) -> tuple[list[DataSet], list[Fault]]:
    """Predict the missing and outdated maps of presets.

    Args:
        data_sets: the datasets, each with a folder of images.
        methods: the presets: name or folder of each, or `NAME=PRESET` to choose the name of the method.
        out: the output folder of the evaluation.
        allow_missing: whether an image without a mask is allowed.
        load: creates a predictor, given its class and the preset.
        progress: called with the number of images, returns a context manager that yields a function to call
            with the number of finished images.

    Returns:
        The datasets with the presets added to their methods, and the images that could not be predicted or have no
        mask.

    Raises:
        ConfigError: if a dataset has no images, has a method of the same name already, or has no groups although the
            preset needs them.
        DataError: if a folder does not exist or is empty.
        DiskError: if a map cannot be written.
        PresetError: if a preset does not exist or cannot be loaded.
    """
    data_sets, faults = list(data_sets), []
    for method in methods:
        name, _, preset = method.rpartition("=")
        preset = presets.find(preset)
        name, predictor = name or preset.name, None
        predictor_class, write = _inference(preset)
        for index, data_set in enumerate(data_sets):
            folder, jobs, images, without_mask = _plan(data_set, preset, Path(out), name, allow_missing)
            data_sets[index] = dataclasses.replace(data_set, maps={**data_set.maps, name: folder})
            faults += without_mask
            if not jobs:
                continue
            predictor = predictor or load(predictor_class, preset.folder)
            with (
                progress(images) as advance,
                contextlib.closing(write(predictor, jobs, OutputWriter(), advance=advance)) as results,
            ):
                errors = [result.error for result in results if result.error]
            faults += [Fault(data_set.name, "unreadable image", error, name) for error in errors]
    return data_sets, faults


def _plan(data_set, preset, out, name, allow_missing):
    """Find the images whose maps are missing or older than the image.

    A co-saliency preset predicts the whole group if one map is missing.

    Returns:
        The folder of the maps, the jobs, their number of images, and the faults of images without a mask.
    """
    if data_set.images is None:
        raise ConfigError(f"{data_set.name}: a preset needs images. Add their folder (--images DIR).")
    if name in data_set.maps:
        raise ConfigError(f"{data_set.name}: two methods are named {name!r}. Rename one of them (NAME=…).")
    needs_groups = preset.task == presets.COSALIENCY
    if needs_groups and not data_set.grouped:
        raise ConfigError(f"{data_set.name}: {name} is a co-saliency preset and needs groups (--grouped).")
    checksum = sha256(preset.folder / presets.CONFIG)[:8]  # the configuration contains the checksums of all other files
    folder = out / "maps" / slug(data_set.name) / f"{slug(name)}-{checksum}"
    masks = masks_of(data_set)
    selected = data_set.selected(masks)
    images = files_by_name(data_set.images, SUFFIXES, "images", masks.keys() if data_set.names else None)
    groups, outdated, faults = {}, set(), []
    for image_name, image in images.items():
        if image_name not in masks:
            if not data_set.shard:  # every shard would report the same ones
                message = f"{image}: no mask of this name in {data_set.masks}."
                faults.append(Fault(data_set.name, "image without mask", message, name, allow_missing))
            continue
        if image_name not in selected:
            continue
        target = folder / f"{image_name}.png"
        group = Path(image_name).parent.as_posix() if needs_groups else image_name
        groups.setdefault(group, []).append(ImageJob(str(image), {"mask": target}))
        if not target.is_file() or target.stat().st_mtime_ns < image.stat().st_mtime_ns:
            outdated.add(group)
    groups = {group: jobs for group, jobs in groups.items() if group in outdated}
    jobs = [
        GroupJob(group, str(Path(data_set.images) / group), members) if needs_groups else members[0]
        for group, members in groups.items()
    ]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder, jobs, sum(map(len, groups.values())), faults


def _inference(preset):
    """Return the predictor class of a preset and the function that writes its maps."""
    if preset.task == presets.COSALIENCY:
        from keras_recnet.inference.group_outputs import write_group_maps
        from keras_recnet.inference.group_predictor import GroupPredictor

        return GroupPredictor, write_group_maps
    from keras_recnet.inference.outputs import write_maps
    from keras_recnet.inference.predictor import Predictor

    return Predictor, write_maps
