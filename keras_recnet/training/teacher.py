"""Knowledge distillation: the saliency maps of a teacher as soft targets of the training.

The maps are files, predicted once before the training and read like masks; see `keras_recnet.pipelines.Pair` for how a
map and a mask become one target. The losses stay as they are.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_recnet import pipelines, presets
from keras_recnet.errors import ConfigError, MissingExtraError, PresetError
from keras_recnet.files import sha256
from keras_recnet.inference.inputs import ImageJob
from keras_recnet.inference.outputs import OutputWriter, write_maps
from keras_recnet.training.config.schema import TeacherConfig
from keras_recnet.training.data import ProgressLog

SOURCES = "Use --set teacher.preset=PRESET, --set teacher.onnx=FILE, or --set teacher.maps=FOLDER"


def check(teacher: TeacherConfig) -> None:
    """Check that exactly one teacher is given and can be used.

    Raises:
        ConfigError: if no teacher or several are given, or the preset is not for single images, or the ONNX file does
            not exist.
        MissingExtraError: if ONNX Runtime is needed and not installed.
        PresetError: if the preset does not exist.
    """
    given = {key: value for key in ("preset", "onnx", "maps") if (value := getattr(teacher, key)) is not None}
    if len(given) != 1:
        received = ", ".join(f"teacher.{key}={value!r}" for key, value in given.items())
        count = f"several teachers are given. Received: {received}" if given else "no teacher is given"
        raise ConfigError(f"teacher: {count}. {SOURCES}.")
    if teacher.preset is not None:
        try:
            preset = presets.find(teacher.preset)
        except PresetError as error:
            raise PresetError(f"teacher.preset: {error}") from error
        if preset.task != presets.SALIENCY:
            raise ConfigError(f"teacher.preset: must be for single images. Received: {teacher.preset!r}, for groups")
    if teacher.onnx is not None:
        if not os.path.isfile(teacher.onnx):
            raise ConfigError(f"teacher.onnx: {teacher.onnx}: no such file.")
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingExtraError('teacher.onnx: needs ONNX Runtime: pip install "keras-recnet[onnx]"')


def map_folder(teacher: TeacherConfig, output: str | os.PathLike) -> Path:
    """Return the folder of a teacher's maps: `teacher.maps`, or a folder in `output` that is named after the teacher.

    The name ends with a checksum, so that a teacher that was changed gets a new folder.
    """
    if teacher.maps is not None:
        return Path(teacher.maps)
    if teacher.preset is not None:
        preset = presets.find(teacher.preset)
        name, checksum = preset.name, sha256(preset.folder / presets.CONFIG)  # has the checksums of the weights
    else:
        name, checksum = Path(teacher.onnx).stem, sha256(teacher.onnx)
    return Path(output) / "teacher" / f"{name}-{checksum[:8]}"


def add_maps(pairs: Iterable[pipelines.Pair], folder: Path, weight: float) -> list[pipelines.Pair]:
    """Add the maps of a folder to pairs.

    Args:
        pairs: the pairs.
        folder: has a map `NAME.png` (or of another image format) for each pair, where NAME is the name of the pair.
        weight: weight of the maps against the masks. With 0, images with masks need no map.

    Raises:
        PipelineDataError: if the folder does not exist or is empty, or naming every image without a map.
    """
    maps, pairs = pipelines.find_images(folder, "maps"), list(pairs)
    problems = [
        f"{pair.image}: the teacher has no map for this image, {folder / pair.name}.png"
        for pair in pairs
        if _needs_map(pair, weight) and pair.name not in maps
    ]
    if problems:
        advice = "Add these maps to teacher.maps, or let teacher.preset or teacher.onnx predict all maps."
        raise pipelines.PipelineDataError(problems, advice)
    return [_with_map(pair, maps.get(pair.name), weight) for pair in pairs]


def predict_maps(
    teacher: TeacherConfig, pairs: Iterable[pipelines.Pair], folder: Path, log: Callable[[str], object]
) -> list[pipelines.Pair]:
    """Predict the missing maps of a preset or an ONNX file, and those older than their images.

    Args:
        teacher: the teacher.
        pairs: the pairs.
        folder: where the maps are written, see `map_folder`.
        log: called with lines about progress.

    Returns:
        The pairs with their maps.

    Raises:
        ConfigError: if the ONNX file is not a saliency network.
        DiskError: if a map cannot be written.
        PipelineDataError: naming every image that cannot be read.
        PresetError: if the preset cannot be loaded.
    """
    pairs = [_with_map(pair, folder / _file_name(pair.name), teacher.weight) for pair in pairs]
    jobs = [ImageJob(str(pair.image), {"mask": pair.teacher_map}) for pair in pairs if _is_outdated(pair)]
    if not jobs:
        return pairs
    predictor = _load(teacher)
    log(f"Predicting {len(jobs):,} maps with the teacher {predictor}: {folder}")
    progress, errors = ProgressLog(log, "Predicting maps"), []
    with contextlib.closing(write_maps(predictor, jobs, OutputWriter())) as results:
        for done, result in enumerate(results, start=1):
            errors += [result.error] if result.error else []
            progress(done, len(jobs))
    if errors:
        raise pipelines.PipelineDataError(errors)
    return pairs


def _needs_map(pair, weight):
    return pair.mask is None or weight > 0


def _with_map(pair, path, weight):
    return dataclasses.replace(pair, teacher_map=path, teacher_weight=weight) if _needs_map(pair, weight) else pair


def _file_name(name):
    """Return the file name of a map; images outside the folders have names that would leave the folder of maps."""
    path = Path(name)
    leaves = path.anchor or ".." in path.parts
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16] if leaves else name}.png"


def _is_outdated(pair):
    path = pair.teacher_map
    return path is not None and not (path.is_file() and path.stat().st_mtime_ns >= os.stat(pair.image).st_mtime_ns)


def _load(teacher):
    if teacher.preset is not None:
        from keras_recnet.inference.predictor import Predictor

        return Predictor(teacher.preset)
    from keras_recnet.training.onnx_teacher import OnnxTeacher

    return OnnxTeacher(teacher.onnx)
