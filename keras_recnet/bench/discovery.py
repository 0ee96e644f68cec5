"""Find the candidates of a preset or an exported folder."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

from keras_recnet import presets
from keras_recnet.bench import flops
from keras_recnet.bench.candidates import KERAS, LITERT, SAVED_MODEL, Candidate, disk_size
from keras_recnet.errors import ConfigError, PresetError

METADATA = "export.json"
# Signatures of the SavedModels that are exported for a benchmark.
_SIGNATURES = {presets.SALIENCY: ["serving_default"], presets.COSALIENCY: ["group", "encode", "step", "decode"]}


def find(
    target: str,
    *,
    engines: list[str] | None = None,
    precisions: list[str] | None = None,
    size: tuple[int, int] | None = None,
    workspace: Path,
    log: Callable[[str], None] = lambda line: None,
) -> list[Candidate]:
    """Return the candidates of a preset or of a folder written by `keras-recnet export`.

    Args:
        target: name or folder of a preset, or an exported folder.
        engines: some of `candidates.ENGINES`. None selects the preset's LiteRT file, if present, and Keras, if
            installed; for an export, its own engine.
        precisions: some of `candidates.PRECISIONS`. None selects the precision of existing files, otherwise float32.
        size: height and width of the input; None selects the preset's own.
        workspace: folder for exports that do not exist yet, for example a LiteRT file in another precision.
        log: called with a message before each export, which can take a few minutes.

    Raises:
        ConfigError: if an export has a different engine, precision or size than requested.
        ConversionError: if an export fails.
        MissingExtraError: if an export needs a package that is not installed.
        PresetError: if the preset or folder does not exist, or the preset lacks a file.
    """
    folder = Path(target)
    shipped = {preset.name for preset in presets.available()}
    if target not in shipped and folder.is_dir() and not (folder / presets.CONFIG).is_file():
        return [_of_export(folder, engines, precisions, size)]
    return _PresetCandidates(presets.find(target), size, workspace, log).find(engines, precisions)


class _PresetCandidates:
    """Finds the candidates of a preset."""

    def __init__(self, preset, size, workspace, log):
        self._preset, self._workspace, self._log = preset, workspace, log
        self._size = tuple(size or preset.config["image_size"])
        self._is_own_size = self._size == tuple(preset.config["image_size"])
        self._litert = None
        if self._is_own_size and preset.has(presets.LITERT):
            self._litert = preset.file(presets.LITERT)

    def find(self, engines, precisions):
        return [
            self._candidate(engine, precision)
            for engine in engines or self._engines()
            for precision in precisions or [self._precision(engine)]
        ]

    def _engines(self):
        has_keras = self._preset.has(presets.WEIGHTS) and importlib.util.find_spec("keras") is not None
        return [LITERT] * (self._litert is not None) + [KERAS] * has_keras or [LITERT]

    def _precision(self, engine):
        if engine != LITERT:
            return "float32"
        return flops.litert_precision(self._litert) if self._litert else "float16"

    def _candidate(self, engine, precision):
        if precision == "int8" and engine != LITERT:
            raise ConfigError(f"Only LiteRT has int8: add --engine litert. Received: --precision int8 for {engine}")
        if engine == KERAS:
            length, source = disk_size(self._preset.file(presets.WEIGHTS)), self._preset.folder
        else:
            source = self._file(engine, precision)
            length = disk_size(source)
        takes_groups = self._preset.task == presets.COSALIENCY
        return Candidate(self._preset.name, engine, precision, str(source), length, self._size, takes_groups)

    def _file(self, engine, precision):
        if engine == LITERT and self._litert and precision == self._precision(LITERT):
            return self._litert
        if precision == "int8":
            return self._int8_file()
        from keras_recnet.export import export_model

        self._log(f"Exporting {self._preset.name} to {engine}, {precision} …")
        metadata = export_model(
            self._preset.folder,
            self._workspace / f"{engine}-{precision}",
            format=engine,
            precision=precision,
            size=None if self._is_own_size else self._size,
            signatures=_SIGNATURES[self._preset.task] if engine == SAVED_MODEL else None,
        )
        folder = Path(metadata["folder"])
        return folder / presets.LITERT if engine == LITERT else folder

    def _int8_file(self):
        if not (self._is_own_size and self._preset.has(presets.LITERT_INT8)):
            raise ConfigError(
                f"{self._preset.folder}: there is no {presets.LITERT_INT8} of this size. Export the preset with "
                f"--precision int8 and --calibration, and benchmark the exported folder."
            )
        return self._preset.file(presets.LITERT_INT8)


def _of_export(folder, engines, precisions, size):
    """Return the candidate of an exported folder if it matches the request."""
    engine, artifact = _artifact(folder)
    metadata = _metadata(artifact)
    model = metadata.get("model", {})
    if engine == LITERT:
        precision = flops.litert_precision(artifact)
        takes_groups = "encode" in flops.litert_signatures(artifact)
    else:
        precision = metadata.get("precision", "float32")
        takes_groups = model.get("task") == presets.COSALIENCY
    own_size = tuple(model.get("image_size") or size or ()) or None
    for name, requested, own in (("engine", engines, engine), ("precision", precisions, precision)):
        others = [value for value in requested or () if value != own]
        if others:
            raise ConfigError(
                f"{folder}: is a {engine} export of precision {precision}. Export the preset again for others. "
                f"Received: --{name} {others[0]}"
            )
    if size is not None and own_size != tuple(size):
        raise ConfigError(
            f"{folder}: was exported for images of {own_size[0]}×{own_size[1]}. Export again with --size for another. "
            f"Received: --size {size[0]}x{size[1]}"
        )
    name = model.get("name") or folder.resolve().name
    return Candidate(name, engine, precision, str(artifact), disk_size(artifact), own_size, takes_groups)


def _artifact(folder):
    """Return the engine and the file or folder of an export; for a SavedModel, its newest version."""
    if (folder / presets.LITERT).is_file():
        return LITERT, folder / presets.LITERT
    versions = sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    for candidate in (folder, *reversed(versions)):
        if (candidate / "saved_model.pb").is_file():
            return SAVED_MODEL, candidate
    raise PresetError(
        f"{folder}: neither a preset nor an export. It has no {presets.CONFIG}, no {presets.LITERT} and no "
        f"saved_model.pb (also not in a version folder 1, 2, …)."
    )


def _metadata(artifact):
    path = (artifact if artifact.is_dir() else artifact.parent) / METADATA
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error}). Export again.") from error
