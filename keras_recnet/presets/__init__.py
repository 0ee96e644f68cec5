"""Presets: folders with pretrained weights, shipped with the library or written by training.

This module reads and checks presets without Keras or TensorFlow. A preset folder contains

- `config.json`: task, constructor arguments of the model, and the size and SHA-256 sum of each `model.*` file,
- `model.weights.h5`: Keras weights, stored as float16,
- `model.tflite`: the inference network for LiteRT (optional),
- `model.int8.tflite`: the same network in int8 (optional),
- `CARD.md`: model card with data, license, results and limitations (shipped presets).
"""

import dataclasses
import json
import os
import reprlib
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from keras_recnet.errors import PresetError, did_you_mean
from keras_recnet.files import atomic_path, sha256
from keras_recnet.presets import _schema

SALIENCY, COSALIENCY = "saliency", "cosaliency"
MODELS = {SALIENCY: "RecNet", COSALIENCY: "RCAUNet"}
FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
LITERT = "model.tflite"
LITERT_INT8 = "model.int8.tflite"
LITERT_FILES = {"float16": LITERT, "int8": LITERT_INT8}  # precision → file
SHIPPED = Path(__file__).parent

_File = TypedDict("_File", {"bytes": int, "sha256": str})  # noqa: UP013 (`bytes` would shadow the type)
# entries of `config.json`; other entries are allowed and not checked
_Config = TypedDict(
    "_Config",
    {
        "task": Literal["saliency", "cosaliency"],
        "class": str,
        "arguments": dict,
        "image_size": tuple[int, int],
        "files": dict[str, _File],
        "fusion": NotRequired[str],
        "keras_recnet": NotRequired[str],
        "training": NotRequired[dict],
    },
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A preset folder and its configuration.

    Attributes:
        name: name of the folder.
        folder: path of the folder.
        config: contents of `config.json`.
    """

    name: str
    folder: Path
    config: dict

    @property
    def task(self) -> str:
        """`"saliency"` (one image, `RecNet`) or `"cosaliency"` (a group of images, `RCAUNet`)."""
        return self.config["task"]

    def has(self, file: str) -> bool:
        """Return whether `config.json` lists a file."""
        return file in self.config["files"]

    def file(self, file: str) -> Path:
        """Return the path of one of the preset's files, after checking its size and SHA-256 sum.

        Raises:
            PresetError: if `config.json` does not list the file, or if the file is missing or its checksum is wrong.
        """
        if not self.has(file):
            raise PresetError(
                f"{self.folder}: this preset has no {file}. Its files: {', '.join(self.config['files'])}."
            )
        path = self.folder / file
        if not path.is_file():
            raise PresetError(f"{path}: missing, though {CONFIG} lists it. Copy the whole preset folder again.")
        expected = self.config["files"][file]
        try:
            is_intact = path.stat().st_size == expected["bytes"] and sha256(path) == expected["sha256"]
        except OSError as error:
            raise PresetError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
        if not is_intact:
            raise PresetError(
                f"{path}: wrong checksum, the file is damaged or was changed. Copy the preset again, or reinstall "
                f"keras-recnet if the preset ships with it."
            )
        return path

    def check_size(self, size: int | tuple[int, int] | None) -> None:
        """Check whether the network supports an image size.

        Raises:
            PresetError: if the network is an `RCAUNet` built for a different size, and its recurrent unit has a spatial
                map. Dense layers over positions compute the map, so their weights fit only one size.
        """
        arguments = self.config.get("arguments", {})
        fixed = (
            self.task == COSALIENCY
            and arguments.get("recnet") is None  # the edge version has no recurrent unit
            and arguments.get("recurrent_unit", "rcau") == "rcau"
            and arguments.get("use_spatial_attention", True)
        )
        expected = tuple(self.config["image_size"])
        size = expected if size is None else (size, size) if isinstance(size, int) else tuple(size)
        if fixed and size != expected:
            raise PresetError(
                "{}: this network only supports images of {}×{} (its recurrent unit has a spatial map). Omit the size. "
                "Received: {}×{}".format(self.folder, *expected, *size)
            )


def find(name_or_folder: str | os.PathLike) -> Preset:
    """Find a preset by name or folder.

    A name without a path separator is looked up among the shipped presets first, then as a folder.

    Raises:
        PresetError: if the preset does not exist or its `config.json` is invalid.
    """
    name = os.fspath(name_or_folder)
    shipped = SHIPPED / name
    if name and os.sep not in name and (shipped / CONFIG).is_file():
        return _read(shipped)
    folder = Path(name)
    if name and folder.is_dir():
        return _read(folder)
    names = [preset.name for preset in available()]
    raise PresetError(
        f"There is no preset and no folder {name!r}.{did_you_mean(name, names)} Shipped presets: "
        f"{', '.join(names) or 'none'}. Specify other presets by their folder."
    )


def available() -> list[Preset]:
    """Return the presets that ship with the library, sorted by name."""
    return [_read(path.parent) for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))]


def write_config(folder: str | os.PathLike, config: dict, files: list[str]) -> Path:
    """Write `config.json`: the entries of `config`, the format version, and size and SHA-256 sum of each file.

    Args:
        folder: the preset folder, which must already contain `files`.
        config: entries to write; an entry `"files"` is replaced with the sizes and sums.
        files: names of files in the folder.

    Returns:
        The path of the written file.
    """
    folder = Path(folder)
    sums = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in files}
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **config, "files": sums}, indent=2) + "\n", encoding="utf-8")
    return folder / CONFIG


def _read(folder: Path) -> Preset:
    path = folder / CONFIG
    if not path.is_file():
        raise PresetError(
            f"{folder}: not a preset, {CONFIG} is missing. `model.save_to_preset(folder)` writes a preset."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PresetError(f"{path}: cannot be read as JSON ({error}). Copy the preset again.") from error
    if not isinstance(config, dict):
        raise PresetError(f"{path}: not a preset configuration, but a {type(config).__name__}. Copy the preset again.")
    if config.get("format", FORMAT) != FORMAT:
        raise PresetError(
            f"{path}: format: this version of keras-recnet reads presets of format {FORMAT}. Upgrade keras-recnet. "
            f"Received: {reprlib.repr(config['format'])}"
        )
    if problem := _problem(config):
        raise PresetError(f"{path}: {problem} Copy the preset again.")
    return Preset(name=folder.resolve().name, folder=folder, config=config)


def _problem(config):
    """Describe the first problem in the contents of `config.json`, or return None."""
    if "format" not in config:
        return "format: is missing."
    if problem := _schema.problem({key: config[key] for key in config if key in _Config.__annotations__}, _Config):
        return problem
    if config["class"] != MODELS[config["task"]]:
        return f"class: must be {MODELS[config['task']]!r} for this task. Received: {config['class']!r}."
    if min(config["image_size"]) < 1:
        return f"image_size: must be positive. Received: {config['image_size']}."
    size = config["arguments"].get("image_size", config["image_size"])
    if size != config["image_size"] and [size, size] != config["image_size"]:
        return f"image_size: must equal arguments.image_size. Received: {config['image_size']} and {size!r}."
    for name in config["files"]:
        if name != Path(name).name:
            return f"files: must be names of files in the preset folder. Received: {name!r}."
    return None
