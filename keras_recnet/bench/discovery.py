"""From a preset, or an exported folder, to the contestants that it gives."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

from keras_recnet import presets
from keras_recnet.bench import flops
from keras_recnet.bench.candidates import KERAS, LITERT, SAVED_MODEL, Contestant, bytes_of
from keras_recnet.errors import ConfigError, PresetError

DESCRIPTION = "export.json"
# of an export that is made to be measured
_SIGNATURES = {LITERT: None, SAVED_MODEL: ["serving_default"]}
_SIGNATURES_OF_GROUPS = {LITERT: None, SAVED_MODEL: ["group", "encode", "step", "decode"]}


def find(
    target: str,
    *,
    engines: list[str] | None = None,
    precisions: list[str] | None = None,
    size: tuple[int, int] | None = None,
    workspace: Path,
    say: Callable[[str], None] = lambda line: None,
) -> list[Contestant]:
    """The contestants of a preset or of a folder that `keras-recnet export` wrote.

    Args:
        target: name of a preset that ships, or a folder.
        engines: of `contestants.ENGINES`; None: the preset's LiteRT file, if it has one, and Keras, if it is installed;
            of an export what it is.
        precisions: of `contestants.PRECISIONS`; None: that of the files at hand, and else float32.
        size: height and width of the network; None: the preset's own.
        workspace: a folder for exports that have to be made first, such as a LiteRT file of another precision.
        say: is told what is being made, which takes up to some minutes.

    Raises:
        ConfigError: if an export is of another engine, precision or size.
        ConversionError: if an export that has to be made cannot be made.
        MissingExtraError: if that takes a package that is not installed.
        PresetError: if there is no such preset or folder, or the preset lacks a file.
    """
    folder = Path(target)
    if folder.is_dir() and not (folder / presets.CONFIG).is_file():
        return _of_export(folder, engines, precisions, size)
    return _OfPreset(presets.find(target), size, workspace, say).contestants(engines, precisions)


class _OfPreset:
    """The contestants that a preset gives."""

    def __init__(self, preset, size, workspace, say):
        self._preset, self._workspace, self._say = preset, workspace, say
        self._size = tuple(size or preset.config["image_size"])
        self._is_own_size = self._size == tuple(preset.config["image_size"])
        self._of_groups = preset.task == presets.COSALIENCY
        self._litert = None
        if self._is_own_size and preset.has(presets.LITERT):
            self._litert = preset.file(presets.LITERT)

    def contestants(self, engines, precisions):
        return [
            self._contestant(engine, precision)
            for engine in engines or self._engines()
            for precision in precisions or [self._precision(engine)]
        ]

    def _engines(self):
        has_keras = self._preset.has(presets.WEIGHTS) and importlib.util.find_spec("keras") is not None
        return [LITERT] * (self._litert is not None) + [KERAS] * has_keras or [LITERT]

    def _precision(self, engine):
        if engine != LITERT:
            return "float32"
        return flops.precision_of_litert(self._litert) if self._litert else "float16"

    def _contestant(self, engine, precision):
        if engine == KERAS:
            length, source = bytes_of(self._preset.file(presets.WEIGHTS)), self._preset.folder
        else:
            source = self._file(engine, precision)
            length = bytes_of(source)
        return Contestant(self._preset.name, engine, precision, str(source), length, self._size, self._of_groups)

    def _file(self, engine, precision):
        if engine == LITERT and self._litert and precision == self._precision(LITERT):
            return self._litert
        from keras_recnet.export import export_model

        self._say(f"Exporting {self._preset.name} to {engine}, {precision} …")
        made = export_model(
            self._preset.folder,
            self._workspace / f"{engine}-{precision}",
            format=engine,
            precision=precision,
            size=None if self._is_own_size else self._size,
            signatures=(_SIGNATURES_OF_GROUPS if self._of_groups else _SIGNATURES)[engine],
        )
        folder = Path(made["folder"])
        return folder / presets.LITERT if engine == LITERT else folder


def _of_export(folder, engines, precisions, size):
    """The contestant that an exported folder is, checked against what is asked for."""
    engine, artifact = _artifact(folder)
    described = _description(artifact)
    model = described.get("model", {})
    if engine == LITERT:
        precision = flops.precision_of_litert(artifact)
        of_groups = "encode" in flops.signatures_of_litert(artifact)
    else:
        precision = described.get("precision", "float32")
        of_groups = model.get("task") == presets.COSALIENCY
    own_size = tuple(model.get("image_size") or size or ()) or None
    for name, asked, has in (("engine", engines, engine), ("precision", precisions, precision)):
        others = [value for value in asked or () if value != has]
        if others:
            raise ConfigError(
                f"{folder}: is a {engine} export of precision {precision}; `keras-recnet export` makes others of the "
                f"preset. Received: --{name} {others[0]}"
            )
    if size is not None and own_size != tuple(size):
        raise ConfigError(
            f"{folder}: was exported for pictures of {own_size[0]}×{own_size[1]}; `keras-recnet export --size` makes "
            f"another. Received: --size {size[0]}x{size[1]}"
        )
    name = model.get("name") or folder.resolve().name
    return [Contestant(name, engine, precision, str(artifact), bytes_of(artifact), own_size, of_groups)]


def _artifact(folder):
    """Engine and file or folder of an export: of a SavedModel the newest version."""
    if (folder / presets.LITERT).is_file():
        return LITERT, folder / presets.LITERT
    versions = sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    for candidate in (folder, *reversed(versions)):
        if (candidate / "saved_model.pb").is_file():
            return SAVED_MODEL, candidate
    raise PresetError(
        f"{folder}: neither a preset nor an export: it holds no {presets.CONFIG}, no {presets.LITERT} and no "
        f"saved_model.pb, also not in a folder 1, 2, … ."
    )


def _description(artifact):
    path = (artifact if artifact.is_dir() else artifact.parent) / DESCRIPTION
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error}). Export again.") from error
