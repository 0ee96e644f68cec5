"""Predict the maps of a preset for a dataset.

The maps are written to `OUT/maps/SET/METHOD-CHECKSUM`. The checksum identifies everything that the maps depend on: the
files of the preset, its options, the folder of images, and for co-saliency the names in every group. A retrained
preset, for example, gets a new folder. A map is predicted only if it is missing or older than its image, so an
interrupted run resumes.
"""

import contextlib
import dataclasses
import hashlib
import json
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
    fusions: Iterable[str] = (),
    allow_missing: bool = False,
    load: Callable = lambda predictor, preset, **options: predictor(preset, **options),
    progress: Progress = no_progress,
) -> tuple[list[DataSet], list[Fault]]:
    """Predict the missing and outdated maps of presets.

    Args:
        data_sets: the datasets, each with a folder of images.
        methods: the presets: name or folder of each, or `NAME=PRESET` to choose the name of the method.
        out: the output folder of the evaluation.
        fusions: fusions of the branches of RecNet presets, each a method of its own; empty: the preset's own fusion.
        allow_missing: whether an image without a mask is allowed.
        load: creates a predictor, given its class, the preset and the options of the class.
        progress: called with the number of images, returns a context manager that yields a function to call
            with the number of finished images.

    Returns:
        The datasets with the presets added to their methods, and the images that could not be predicted or have no
        mask.

    Raises:
        ConfigError: if a dataset has no images, has a method of the same name already, or has no groups although the
            preset needs them; or if there are fusions, but no RecNet preset.
        DataError: if a folder does not exist or is empty.
        DiskError: if a map cannot be written.
        PresetError: if a preset does not exist or cannot be loaded.
    """
    data_sets, faults = list(data_sets), []
    for method in _with_options(methods, list(fusions)):
        predictor = None
        predictor_class, write = _inference(method.preset)
        for index, data_set in enumerate(data_sets):
            folder, jobs, images, without_mask = _plan(data_set, method, Path(out), allow_missing)
            data_sets[index] = dataclasses.replace(data_set, maps={**data_set.maps, method.name: folder})
            faults += without_mask
            if not jobs:
                continue
            predictor = predictor or load(predictor_class, method.preset.folder, **method.network)
            with (
                progress(images) as advance,
                contextlib.closing(write(predictor, jobs, OutputWriter(), advance=advance)) as results,
            ):
                errors = [result.error for result in results if result.error]
            faults += [Fault(data_set.name, "unreadable image", error, method.name) for error in errors]
    return data_sets, faults


@dataclasses.dataclass(frozen=True)
class _Method:
    """A preset with options, which is one method in the tables.

    Attributes:
        name: name of the method.
        preset: the preset.
        network: arguments of the predictor.
    """

    name: str
    preset: presets.Preset
    network: dict = dataclasses.field(default_factory=dict)

    @property
    def needs_groups(self):
        return self.preset.task == presets.COSALIENCY

    def checksum(self, folder, names):
        """Return a checksum of everything that the maps of the images `names` in `folder` depend on."""
        config = sha256(self.preset.folder / presets.CONFIG)  # contains the checksums of all other files
        parts = [config, self.network, os.path.abspath(folder), sorted(names) if self.needs_groups else []]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def _with_options(methods, fusions):
    """Find the presets, and return a method for each of them and each of its options."""
    found = []
    for text in methods:
        name, _, preset = text.rpartition("=")
        preset = presets.find(preset)
        found.append(_Method(name or preset.name, preset))
    if fusions and all(method.needs_groups for method in found):
        raise ConfigError("--fusion needs a RecNet preset (--preset): only RecNet has two branches to fuse.")
    result = []
    for method in found:
        if fusions and not method.needs_groups:
            result += [
                dataclasses.replace(method, name=f"{method.name} (fusion {fusion})", network={"fusion": fusion})
                for fusion in dict.fromkeys(fusions)
            ]
        else:
            result.append(method)
    return result


def _plan(data_set, method, out, allow_missing):
    """Find the images whose maps are missing or older than the image.

    A co-saliency preset predicts the whole group if one map is missing.

    Returns:
        The folder of the maps, the jobs, their number of images, and the faults of images without a mask.
    """
    if data_set.images is None:
        raise ConfigError(f"{data_set.name}: a preset needs images. Add their folder (--images DIR).")
    name = method.name
    if name in data_set.maps:
        raise ConfigError(f"{data_set.name}: two methods are named {name!r}. Rename one of them (NAME=…).")
    if method.needs_groups and not data_set.grouped:
        raise ConfigError(f"{data_set.name}: {name} is a co-saliency preset and needs groups (--grouped).")
    masks = masks_of(data_set)
    selected = data_set.selected(masks)
    images = files_by_name(data_set.images, SUFFIXES, "images", masks.keys() if data_set.is_subset else None)
    checksum = method.checksum(data_set.images, images.keys() & masks.keys())
    folder = out / "maps" / slug(data_set.name) / f"{slug(name)}-{checksum}"
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
        group = Path(image_name).parent.as_posix() if method.needs_groups else image_name
        groups.setdefault(group, []).append(ImageJob(str(image), {"mask": target}))
        if not target.is_file() or target.stat().st_mtime_ns < image.stat().st_mtime_ns:
            outdated.add(group)
    groups = {group: jobs for group, jobs in groups.items() if group in outdated}
    jobs = [
        GroupJob(group, str(Path(data_set.images) / group), members) if method.needs_groups else members[0]
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
