"""A model becomes an artifact, the artifact is proved, and only then it gets its name."""

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
from keras_recnet.export.metadata import INPUT_DTYPES
from keras_recnet.export.verification import ConversionError
from keras_recnet.files import disk_errors, disk_full, sha256
from keras_recnet.parallel import child_python

FORMATS = {"savedmodel": ("float32", "float16"), "litert": ("float16", "float32")}  # the first is the default
DESCRIPTION = "export.json"
CARD = "CARD.md"
PREPROCESSING = (
    "RGB in 0…255, upright (EXIF rotation applied), resized bilinearly with antialiasing; everything else is inside. "
    "A SavedModel resizes by itself, a LiteRT file takes pictures of its own size."
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
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Exports a model, runs the artifact in a process that cannot import this library, and compares it with Keras.

    A SavedModel goes into `out/1`, or the next number that is free; a LiteRT file is `out/model.tflite`. Beside it lie
    `export.json` and the preset's `CARD.md`. Nothing lies under these names unless the proof has held.

    Args:
        source: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: the folder to write to: a new one, an empty one, or one of an earlier export.
        format: `"savedmodel"` (see `export.savedmodel.writing`) or `"litert"` (`export.litert.converting`).
        precision: `"float32"` or `"float16"`. A SavedModel of float16 computes in mixed precision, for GPUs (default:
            float32); a LiteRT file of float16 stores its weights so and computes in float32 (its default).
        size: height and width to build the network for, one number or two; None: the model's own. A network whose
            weights belong to its size cannot have another.
        signatures: names of those to export; None: all.
        max_pixels: of one picture in a request to a SavedModel; None: 50 million.
        input_dtype: of the images that a LiteRT file takes, `"float32"` (None) or `"uint8"`. A SavedModel takes both.
        say: called with a line at each stage.

    Returns:
        What `export.json` says: `model`, `licence`, `versions`, `signatures` with `inputs` and `outputs`, `files`,
        `proof`, and of a LiteRT file `gpu_incompatible`, the operations that the GPU delegate lacks.

    Raises:
        ConfigError: if an argument is wrong, or `out` is something else than the folder of an export.
        ConversionError: if the conversion fails or the artifact computes something else than Keras.
        DiskError: if the disk is full or the folder cannot be written.
        MissingExtraError: if TensorFlow is not installed.
        PresetError: if there is no such preset or it is damaged.

    Example:
        >>> export_model("recnet_lite0", "serving/recnet_lite0", format="savedmodel")["proof"]["differences"]
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
            f"`input_dtype` is for LiteRT; a SavedModel has signatures for both. Received: input_dtype={input_dtype!r}"
        )
    need_tensorflow()
    out = Path(out)
    _check_out(out, format)
    with _folder_inside(out) as work:
        artifact = work / ("model" if format == "savedmodel" else presets.LITERT)
        made, proved = make_and_prove(
            source,
            artifact,
            kind=format,
            precision=precision,
            size=[size, size] if isinstance(size, int) else size,
            signatures=signatures,
            max_pixels=max_pixels,
            input_dtype=input_dtype,
            say=say,
        )
        card = made.pop("card")
        description = {
            "format": format,
            "precision": precision,
            "model": made["model"],
            "preprocessing": PREPROCESSING,
            "licence": made["licence"],
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {"keras_recnet": keras_recnet.__version__, **made["versions"], **proved.pop("versions")},
            "signatures": made["signatures"],
            "proof": proved,
        }
        if "gpu_incompatible" in made:
            description["gpu_incompatible"] = made["gpu_incompatible"]
        return _finish(out, artifact, description, card)


def make_and_prove(source, artifact: Path, *, kind: str, say=lambda line: None, **asked) -> tuple[dict, dict]:
    """Writes an artifact and compares it with Keras.

    Args:
        source: a model, or the name or folder of a preset.
        artifact: the folder or file to write.
        kind: the format.
        say: called with a line at each stage.
        **asked: `precision`, `size`, `signatures`, `max_pixels` and `input_dtype` as `export_model` has them.

    Returns:
        What `keras_recnet.export.worker` says of it, with the preset's `card`; and what `proof.compare` found.

    Raises:
        as `export_model`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        described, file, card = _source(source, Path(scratch))
        calls = Path(scratch) / "calls"
        calls.mkdir()
        say(f"Making the {kind} …")
        _make(kind=kind, source=os.fspath(file), artifact=os.fspath(artifact), calls=os.fspath(calls), **asked)
        made = json.loads((calls / "made.json").read_text())
        say("Proving it in a process of its own …")
        verification.run(kind, artifact, calls)
        proved = verification.compare(calls, verification.TOLERANCE[kind, asked["precision"]])
    return {**made, "model": {**described, **made["model"]}, "card": card}, proved


def need_tensorflow() -> None:
    """Raises `MissingExtraError` where TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError('Exports need TensorFlow: pip install "keras-recnet[tensorflow]".')


def _check_out(out, format):
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: a file stands there. Choose a folder to export to.")
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
            f"{out}: not the folder of an earlier {format} export, it holds {', '.join(others[:3])}"
            f"{' …' if len(others) > 3 else ''}. Choose another folder, or an empty one."
        )


@contextlib.contextmanager
def _folder_inside(out):
    """A folder inside of `out` for what is not finished; both go again if it stays so."""
    is_new = not out.exists()
    work = out / f".partial-{secrets.token_hex(4)}"
    try:
        with disk_errors(out):
            work.mkdir(parents=True)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty: the export lies in it
                out.rmdir()


def _source(source, scratch):
    """What `export.json` says of the model, the file or folder that it is loaded from, and its card if it has one."""
    if not isinstance(source, (str, os.PathLike)):
        file = scratch / "model.keras"
        source.save(file)
        return {"name": source.name}, file, None
    preset = presets.find(source)
    weights = preset.file(presets.WEIGHTS)  # checked here, where its error is not another process' last lines
    card = preset.folder / CARD
    described = {"name": preset.name, "weights_sha256": sha256(weights)}
    return described, preset.folder, card if card.is_file() else None


def _make(**asked):
    code = "import sys; from keras_recnet.export import worker; sys.exit(worker.main(sys.argv[1]))"
    environment = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = child_python(code, json.dumps(asked), **environment)
    done = subprocess.run(**process, capture_output=True, text=True)
    if not done.returncode:
        return
    told = Path(asked["calls"]) / "error.txt"
    if told.is_file():
        raise ConversionError(told.read_text(encoding="utf-8"))
    if "No space left on device" in done.stderr:
        raise DiskError(disk_full(Path(asked["artifact"]).parents[1]))
    last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
    raise ConversionError(
        f"{asked['source']}: the conversion to {asked['kind']} failed (status {done.returncode}):\n{last}"
    )


def _finish(out, artifact, description, card):
    """Writes the description beside the artifact and gives both their names."""
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
        except OSError as error:  # another export took the number in this moment
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
