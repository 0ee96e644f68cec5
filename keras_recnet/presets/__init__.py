"""Presets: folders of weights that ship with the library or that a training wrote.

This module reads and checks them and needs neither Keras nor TensorFlow. A preset folder holds

- `config.json`: what the weights are, how to build their model, and size and SHA-256 sum of every other file,
- `model.weights.h5`: Keras weights, stored as float16,
- `model.tflite`: the inference network for LiteRT (optional),
- `CARD.md`: data, licence, results, limits.
"""

import dataclasses
import difflib
import json
import os
from pathlib import Path

from keras_recnet.errors import PresetError
from keras_recnet.files import atomic_path, sha256

SALIENCY, COSALIENCY = TASKS = ("saliency", "cosaliency")
FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
LITERT = "model.tflite"
SHIPPED = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Preset:
    """A preset folder with its configuration read.

    Attributes:
        name: the folder's name.
        folder: where it lies.
        config: the contents of `config.json`.
    """

    name: str
    folder: Path
    config: dict

    @property
    def task(self) -> str:
        """`"saliency"` (one image, `RecNet`) or `"cosaliency"` (a group of images, `RCAUNet`)."""
        return self.config["task"]

    def has(self, file: str) -> bool:
        """Whether the preset lists `file`."""
        return file in self.config["files"]

    def file(self, file: str) -> Path:
        """The path of one of the preset's files, after a check of its size and SHA-256 sum.

        Raises:
            PresetError: if the preset does not list the file, or if it is missing or differs from what was saved.
        """
        if not self.has(file):
            raise PresetError(f"{self.folder}: this preset has no {file}. It has: {', '.join(self.config['files'])}.")
        path = self.folder / file
        if not path.is_file():
            raise PresetError(f"{path}: missing, though {CONFIG} lists it. Copy the whole preset folder again.")
        expected = self.config["files"][file]
        if path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
            raise PresetError(
                f"{path}: wrong checksum, the file is damaged or was changed. Copy the preset again, "
                f"or reinstall keras-recnet if it is one that ships."
            )
        return path

    def check_size(self, size: int | tuple[int, int] | None) -> None:
        """Refuses another image size than the preset's own where the network is bound to it.

        Raises:
            PresetError: if the spatial map of an `RCAUNet`'s recurrent unit, a dense layer over positions, has another
                size.
        """
        arguments = self.config.get("arguments", {})
        bound = (
            self.task == COSALIENCY
            and arguments.get("recurrent_unit", "rcau") == "rcau"
            and arguments.get("use_spatial_attention", True)
        )
        own = tuple(self.config["image_size"])
        size = own if size is None else (size, size) if isinstance(size, int) else tuple(size)
        if bound and size != own:
            raise PresetError(
                "{}: the spatial map of its recurrent unit binds this network to {}×{}; leave the size out. Received: "
                "{}×{}".format(self.folder, *own, *size)
            )


def find(name_or_folder: str | os.PathLike) -> Preset:
    """Finds a preset by the name it ships under, or by its folder.

    A plain name is looked up among the shipped presets first and then as a folder.

    Raises:
        PresetError: if there is none, with the nearest name, or if its `config.json` cannot be used.
    """
    name = os.fspath(name_or_folder)
    shipped = SHIPPED / name
    if name and os.sep not in name and (shipped / CONFIG).is_file():
        return _read(shipped)
    folder = Path(name)
    if name and folder.is_dir():
        return _read(folder)
    names = [preset.name for preset in available()]
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise PresetError(
        f"There is no preset and no folder {name!r}.{hint} Presets that ship: {', '.join(names) or 'none'}; "
        f"any other is named by its folder."
    )


def available() -> list[Preset]:
    """The presets that ship with the library, by name."""
    return [_read(path.parent) for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))]


def write_config(folder: str | os.PathLike, config: dict, files: list[str]) -> Path:
    """Writes `config.json`: `config` with the format's number, and size and SHA-256 sum of `files`.

    Args:
        folder: the preset's folder, with `files` already in it.
        config: what the preset is; an entry `"files"` in it is replaced.
        files: names inside the folder.

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
        raise PresetError(f"{folder}: not a preset, it holds no {CONFIG}. `model.save_to_preset(folder)` writes one.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PresetError(f"{path}: not readable as JSON ({error}). Copy the preset again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("files"), dict):
        raise PresetError(f"{path}: not the configuration of a preset, it has no entry 'files'. Copy the preset again.")
    if config.get("format") != FORMAT:
        raise PresetError(
            f"{path}: this version reads presets of format {FORMAT}. Received: format={config.get('format')!r}. "
            f"Upgrade keras-recnet."
        )
    if config.get("task") not in TASKS:
        raise PresetError(f"{path}: `task` must be one of {TASKS}. Received: task={config.get('task')!r}")
    return Preset(name=folder.resolve().name, folder=folder, config=config)
