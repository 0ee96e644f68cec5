"""Export a model: write the artifact, verify it, and only then move it to its place."""

import contextlib
import datetime
import errno
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras_recnet
from keras_recnet import presets
from keras_recnet.errors import ConfigError, DiskError, MissingExtraError
from keras_recnet.export import verification
from keras_recnet.export.litert.flatbuffer import INPUT_DTYPES
from keras_recnet.export.verification import ConversionError
from keras_recnet.files import atomic_path, disk_errors, disk_full, sha256
from keras_recnet.parallel import child_python

FORMATS = {"savedmodel": ("float32", "float16"), "litert": ("float16", "float32")}  # the first is the default
DESCRIPTION = "export.json"
CARD = "CARD.md"
PREPROCESSING = (
    "RGB in 0…255, upright (EXIF rotation applied), resized bilinearly with antialiasing; the model does the rest. "
    "A SavedModel also resizes; a LiteRT file takes images of its input size."
)


def export_model(
    source,
    out: str | os.PathLike,
    *,
    format: str,
    precision: str | None = None,
    size: int | tuple[int, int] | None = None,
    signatures: Sequence[str] | None = None,
    max_pixels: int | None = None,
    input_dtype: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> dict:
    """Export a model, and verify the artifact against Keras in a process that cannot import this library.

    A SavedModel is written to `out/1`, or the next free number; a LiteRT file to `out/model.tflite`. The same folder
    gets `export.json` and the `CARD.md` of the preset. Nothing is written if the verification fails.

    Args:
        source: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: output folder: new, empty, or from an earlier export.
        format: `"savedmodel"` (see `export.savedmodel.writing`) or `"litert"` (`export.litert.converting`).
        precision: `"float32"` or `"float16"`. A float16 SavedModel computes in mixed precision, for GPUs (default:
            float32). A float16 LiteRT file stores weights in float16 and computes in float32 (the default).
        size: image size of the network, one number or `(height, width)`; None: the model's own size. A network whose
            weights depend on the size cannot be resized.
        signatures: names of the signatures to export; None: all.
        max_pixels: largest image in a request to a SavedModel; None: 50 million pixels.
        input_dtype: dtype of the images of a LiteRT file, `"float32"` (None) or `"uint8"`. A SavedModel accepts both.
        log: called with a line of text at each stage.

    Returns:
        The contents of `export.json` plus `folder`. Some of the keys are `model`, `licence`, `versions`, `signatures`,
        `files`, `verification` (see `export.verification.compare`) and, for LiteRT, `gpu_incompatible` (see
        `export.gpu_incompatible`).

    Raises:
        ConfigError: if an argument is invalid or does not suit the model, or if `out` contains other files.
        ConversionError: if the conversion or the verification fails.
        DiskError: if the disk is full or the folder is not writable.
        MissingExtraError: if TensorFlow is not installed.
        PresetError: if the preset does not exist or is damaged.

    Example:
        >>> export_model("recnet_lite0", "serving/recnet_lite0", format="savedmodel")["verification"]["differences"]
    """
    if format not in FORMATS:
        raise ConfigError(f"`format` must be one of {tuple(FORMATS)}. Received: format={format!r}")
    precision = precision or FORMATS[format][0]
    if precision not in FORMATS[format]:
        raise ConfigError(f"`precision` must be one of {FORMATS[format]}. Received: precision={precision!r}")
    if input_dtype not in (None, *INPUT_DTYPES):
        raise ConfigError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    if input_dtype and format != "litert":
        raise ConfigError(
            f"`input_dtype` is for LiteRT; a SavedModel accepts both. Received: input_dtype={input_dtype!r}"
        )
    require_tensorflow()
    out = Path(out)
    _check_out(out, format)
    with _work_folder(out) as work:
        artifact = work / ("model" if format == "savedmodel" else presets.LITERT)
        report, verified = write_and_verify(
            source,
            artifact,
            kind=format,
            precision=precision,
            size=[size, size] if isinstance(size, int) else size,
            signatures=signatures,
            max_pixels=max_pixels,
            input_dtype=input_dtype,
            log=log,
        )
        card = report.pop("card")
        description = {
            "format": format,
            "precision": precision,
            "model": report["model"],
            "preprocessing": PREPROCESSING,
            "licence": report["licence"],
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {"keras_recnet": keras_recnet.__version__, **report["versions"], **verified.pop("versions")},
            "signatures": report["signatures"],
            "verification": verified,
        }
        if "gpu_incompatible" in report:
            description["gpu_incompatible"] = report["gpu_incompatible"]
        return _finish(out, artifact, description, card)


def write_and_verify(source, artifact: Path, *, kind: str, log=lambda line: None, **options) -> tuple[dict, dict]:
    """Write an artifact and compare it with Keras.

    Args:
        source: a model, or the name or folder of a preset.
        artifact: the folder or file to write.
        kind: the format.
        log: called with a line of text at each stage.
        **options: `precision`, `size`, `signatures`, `max_pixels` and `input_dtype` of `export_model`.

    Returns:
        The report of `keras_recnet.export.worker`, with the path of the preset's `card` or None; and the result of
        `verification.compare`.

    Raises:
        The errors of `export_model`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        described, file, card = _source(source, Path(scratch))
        calls = Path(scratch) / "calls"
        calls.mkdir()
        log(f"Converting to {kind} …")
        _run_worker(kind=kind, source=os.fspath(file), artifact=os.fspath(artifact), calls=os.fspath(calls), **options)
        report = json.loads((calls / "report.json").read_text())
        log("Verifying in a separate process …")
        verification.run(kind, artifact, calls)
        verified = verification.compare(calls, verification.TOLERANCE[kind, options["precision"]])
    return {**report, "model": {**described, **report["model"]}, "card": card}, verified


def convert(model, out: str | os.PathLike, *, precision: str = "float16", input_dtype: str = "float32") -> Path:
    """Convert a model to a LiteRT file, and verify it against Keras.

    Args:
        model: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: output file, `….tflite`.
        precision: precision of the stored weights, `"float16"` (half the size) or `"float32"`; computation is always in
            float32.
        input_dtype: dtype of the images, `"float32"` or `"uint8"`; values are always RGB in 0…255.

    Returns:
        The path of the file.

    Raises:
        ConversionError: if the conversion or the verification fails.
        MissingExtraError: if TensorFlow is not installed.
        PresetError: if the preset does not exist or is damaged.

    Example:
        >>> convert("recnet_lite0", "recnet_lite0.tflite")
    """
    if precision not in FORMATS["litert"]:
        raise ValueError(f"`precision` must be one of {FORMATS['litert']}. Received: precision={precision!r}")
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    require_tensorflow()
    with atomic_path(out) as temporary:
        write_and_verify(model, temporary, kind="litert", precision=precision, input_dtype=input_dtype)
    return Path(out)


def add_to_preset(folder: str | os.PathLike, *, precision: str = "float16", input_dtype: str = "float32") -> Path:
    """Convert a preset and add `model.tflite` to its folder and the checksum to its `config.json`.

    Args:
        folder: folder of the preset, from `save_to_preset` of a `RecNet` or `RCAUNet`.
        precision: as for `convert`.
        input_dtype: as for `convert`; the engines accept both.

    Returns:
        The path of the LiteRT file. Raises the errors of `convert`.
    """
    preset = presets.find(folder)
    out = convert(preset.folder, preset.folder / presets.LITERT, precision=precision, input_dtype=input_dtype)
    presets.write_config(preset.folder, preset.config, sorted({*preset.config["files"], presets.LITERT}))
    return out


def require_tensorflow() -> None:
    """Raise `MissingExtraError` if TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError('Exports need TensorFlow: pip install "keras-recnet[tensorflow]".')


def _check_out(out, format):
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file. Choose another output folder.")
    if not out.is_dir():
        return
    names = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    kinds = {
        "savedmodel": [name for name in names if name.isdecimal()],
        "litert": [name for name in names if name in (presets.LITERT, DESCRIPTION, CARD)],
    }
    others = sorted(set(names) - set(kinds[format]))
    if others:
        raise ConfigError(
            f"{out}: not the folder of an earlier {format} export, since it contains {', '.join(others[:3])}"
            f"{' …' if len(others) > 3 else ''}. Choose another folder, or an empty one."
        )


@contextlib.contextmanager
def _work_folder(out):
    """Yield a temporary folder inside `out`. Finally also remove `out` if it is new and has stayed empty."""
    is_new = not out.exists()
    work = out / f".partial-{secrets.token_hex(4)}"
    try:
        with disk_errors(out):
            work.mkdir(parents=True)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # `out` contains the export
                out.rmdir()


def _source(source, scratch):
    """Return the description of the model for `export.json`, the file or folder to load it from, and its card."""
    if not isinstance(source, (str, os.PathLike)):
        file = scratch / "model.keras"
        source.save(file)
        return {"name": source.name}, file, None
    preset = presets.find(source)
    weights = preset.file(presets.WEIGHTS)  # checked here for a short error message
    card = preset.folder / CARD
    described = {"name": preset.name, "weights_sha256": sha256(weights)}
    return described, preset.folder, card if card.is_file() else None


def _run_worker(**job):
    code = "import sys; from keras_recnet.export import worker; sys.exit(worker.main(sys.argv[1]))"
    environment = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = child_python(code, json.dumps(job), **environment)
    done = subprocess.run(**process, capture_output=True, text=True)
    if not done.returncode:
        return
    message = Path(job["calls"]) / "error.txt"
    if message.is_file():
        raise ConfigError(message.read_text(encoding="utf-8"))
    if "No space left on device" in done.stderr:
        raise DiskError(disk_full(Path(job["artifact"]).parents[1]))
    raise ConversionError(
        f"{job['source']}: the conversion to {job['kind']} failed (status {done.returncode}):\n"
        f"{verification.last_lines(done)}"
    )


def _finish(out, artifact, description, card):
    """Write the description, and move it and the artifact to their places."""
    folder = artifact if artifact.is_dir() else artifact.parent
    if card:
        shutil.copyfile(card, folder / CARD)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    description["files"] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if artifact.is_dir():
        target = _rename_to_next_number(artifact, out)
    else:
        target = out
        for path in sorted(folder.iterdir(), key=lambda path: path.name == DESCRIPTION):
            path.replace(out / path.name)
    return {**description, "folder": os.fspath(target)}


def _rename_to_next_number(folder, out):
    while True:
        taken = [int(path.name) for path in out.iterdir() if path.name.isdecimal()]
        target = out / str(max(taken, default=0) + 1)
        try:
            return folder.rename(target)
        except OSError as error:  # another export took the number meanwhile
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
