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

# State of the group → what the tables call it, see `keras_recnet.evaluation.state_studies.write_with_state`.
STATES = {"zero": "state zeroed", "other": "state of another group", "reverse": "reversed order"}

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
    states: Iterable[str] = (),
    allow_missing: bool = False,
    load: Callable = lambda predictor, preset, **options: predictor(preset, **options),
    progress: Progress = no_progress,
) -> tuple[list[DataSet], list[Fault]]:
    """Predict the missing and outdated maps of presets.

    Args:
        data_sets: the datasets, each with a folder of images.
        methods: the presets: name or folder of each, or `NAME=PRESET` to choose the name of the method.
        out: the output folder of the evaluation.
        fusions: fusions of the branches of RecNet presets, each a separate method; empty: the preset's own fusion.
        states: other states of the group, keys of `STATES`. Co-saliency presets are also predicted with each of them,
            as a separate method.
        allow_missing: whether an image without a mask is allowed.
        load: creates a predictor, given its class, the preset and the options of the class.
        progress: called with the number of images, returns a context manager that yields a function to call
            with the number of finished images.

    Returns:
        The datasets with the presets added to their methods, and the images that could not be predicted or have no
        mask.

    Raises:
        ConfigError: if a dataset has no images, has a method of the same name already, or has no groups although the
            preset needs them; or if there are fusions, but no RecNet preset, or states, but no co-saliency preset.
        DataError: if a folder does not exist or is empty.
        DiskError: if a map cannot be written.
        PresetError: if a preset does not exist or cannot be loaded.
    """
    data_sets, faults = list(data_sets), []
    predictor, loaded = None, None
    for method in _with_options(methods, list(fusions), list(states)):
        for index, data_set in enumerate(data_sets):
            plan = _plan(data_set, method, Path(out), allow_missing)
            data_sets[index] = dataclasses.replace(data_set, maps={**data_set.maps, method.name: plan.folder})
            faults += plan.faults
            if not plan.jobs:
                continue
            if loaded != (method.preset, method.network):
                predictor = load(_predictor_class(method), method.preset.folder, **method.network)
                loaded = method.preset, method.network
            with (
                progress(plan.images) as advance,
                contextlib.closing(_write(method, predictor, plan, advance)) as results,
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
        state: state of the group, one of `STATES`; None: its own.
    """

    name: str
    preset: presets.Preset
    network: dict = dataclasses.field(default_factory=dict)
    state: str | None = None

    @property
    def needs_groups(self):
        return self.preset.task == presets.COSALIENCY

    def checksum(self, folder, names):
        """Return a checksum of everything that the maps of the images `names` in `folder` depend on."""
        config = sha256(self.preset.folder / presets.CONFIG)  # contains the checksums of all other files
        parts = [config, self.network, self.state, os.path.abspath(folder)]
        parts.append(sorted(names) if self.needs_groups else [])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def _with_options(methods, fusions, states):
    """Find the presets, and return a method for each of them and each of its options."""
    found = []
    for text in methods:
        name, _, preset = text.rpartition("=")
        preset = presets.find(preset)
        found.append(_Method(name or preset.name, preset))
    if fusions and all(method.needs_groups for method in found):
        raise ConfigError("--fusion needs a RecNet preset (--preset): only RecNet has two branches to fuse.")
    if states and not any(method.needs_groups for method in found):
        raise ConfigError("--state needs a co-saliency preset (--preset): only they have the state of a group.")
    result = []
    for method in found:
        if method.needs_groups or not fusions:
            result.append(method)
        for fusion in () if method.needs_groups else dict.fromkeys(fusions):
            name = f"{method.name} (fusion {fusion})"
            result.append(dataclasses.replace(method, name=name, network={"fusion": fusion}))
        for state in dict.fromkeys(states) if method.needs_groups else ():
            result.append(dataclasses.replace(method, name=f"{method.name} ({STATES[state]})", state=state))
    return result


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What to predict for a method on a dataset.

    Attributes:
        folder: the folder of the maps.
        jobs: an `ImageJob` per image, or a `GroupJob` per group, whose maps are missing or outdated.
        others: for each group of `jobs`, the images of the next group.
        images: number of images of `jobs`.
        faults: images without a mask.
    """

    folder: Path
    jobs: list
    others: list[list[str]]
    images: int
    faults: list[Fault]


def _plan(data_set, method, out, allow_missing):
    """Find the images whose maps are missing or older than an image that they depend on.

    A co-saliency preset predicts the whole group if one map is missing.
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
    groups, faults = {}, []
    for image_name, image in images.items():
        if image_name not in masks:
            if not data_set.shard:  # every shard would report the same ones
                message = f"{image}: no mask of this name in {data_set.masks}."
                faults.append(Fault(data_set.name, "image without mask", message, name, allow_missing))
            continue
        group = Path(image_name).parent.as_posix() if method.needs_groups else image_name
        groups.setdefault(group, {})[image_name] = ImageJob(str(image), {"mask": folder / f"{image_name}.png"})
    jobs, others, count = [], [], 0
    next_groups = [*groups.values()][1:] + [*groups.values()][:1]
    for (group, members), next_group in zip(groups.items(), next_groups, strict=True):
        other = [job.source for job in next_group.values()] if method.state == "other" else []
        if members.keys() <= selected.keys() and _outdated(members.values(), other):
            own = list(members.values())
            jobs.append(GroupJob(group, str(Path(data_set.images) / group), own) if method.needs_groups else own[0])
            others.append(other)
            count += len(own)
    if method.state == "other" and len(groups) < 2:
        raise ConfigError(f"{data_set.name}: {name} needs at least two groups. Received: {len(groups)}")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return _Plan(folder, jobs, others, count, faults)


def _outdated(jobs, other):
    """Return whether a map is missing, or older than an image of its group or of the other group."""
    targets = [job.outputs["mask"] for job in jobs]
    if not all(target.is_file() for target in targets):
        return True
    newest = max(os.stat(image).st_mtime_ns for image in [*(job.source for job in jobs), *other])
    return min(target.stat().st_mtime_ns for target in targets) < newest


def _predictor_class(method):
    if method.needs_groups:
        from keras_recnet.inference.group_predictor import GroupPredictor

        return GroupPredictor
    from keras_recnet.inference.predictor import Predictor

    return Predictor


def _write(method, predictor, plan, advance):
    """Predict the maps of a plan, and yield the results."""
    writer = OutputWriter()
    if method.state:
        from keras_recnet.evaluation.state_studies import write_with_state

        return write_with_state(predictor, plan.jobs, writer, state=method.state, others=plan.others, advance=advance)
    if method.needs_groups:
        from keras_recnet.inference.group_outputs import write_group_maps

        return write_group_maps(predictor, plan.jobs, writer, advance=advance)
    from keras_recnet.inference.outputs import write_maps

    return write_maps(predictor, plan.jobs, writer, advance=advance)
