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
from keras_recnet.export.web import site
from keras_recnet.files import atomic_path, disk_errors, disk_full, sha256
from keras_recnet.parallel import child_python

FORMATS = {  # the first precision is the default
    "savedmodel": ("float32", "float16"),
    "litert": ("float16", "float32", "int8"),
    "onnx": ("float32",),
    "openvino": ("float32",),
    "web": ("int8", "float32"),
}
_STEMS = ("model", "encode", "step", "decode")
_FILES = {  # names of the files that an export may write
    "litert": {presets.LITERT},
    "onnx": {f"{stem}.onnx" for stem in _STEMS},
    "openvino": {f"{stem}{suffix}" for stem in _STEMS for suffix in (".xml", ".bin")},
    "web": {*site.PAGE, site.LITERT, site.MODELS, site.SITE, site.LICENSES},
}
# Format or precision → packages it needs besides TensorFlow, which the extra of the same name installs.
_PACKAGES = {"int8": ["ai_edge_quantizer"], "onnx": ["tf2onnx", "onnx", "onnxruntime"], "openvino": ["openvino"]}
CALIBRATION_IMAGES = 100
DESCRIPTION = "export.json"
CARD = "CARD.md"
PREPROCESSING = (
    "RGB in 0…255, upright (EXIF rotation applied), resized bilinearly with antialiasing; the model does the rest. "
    "A SavedModel also resizes; the other formats take images of their input size."
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
    calibration: str | os.PathLike | None = None,
    group_preset: str | os.PathLike | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> dict:
    """Export a model, and verify the artifact against Keras in a process that cannot import this library.

    A SavedModel is written to `out/1`, or the next free number; a LiteRT file to `out/model.tflite`; ONNX and OpenVINO
    files to `out/model.onnx` and `out/model.xml` or, for an `RCAUNet`, to one file per signature. The same folder gets
    `export.json` and the `CARD.md` of the preset. A static page for browsers is written to `out/index.html`, with the
    LiteRT files that it runs. Nothing is written if the verification fails.

    Args:
        source: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: output folder: new, empty, or from an earlier export.
        format: `"savedmodel"` (see `export.savedmodel.writing`), `"litert"` (`export.litert.converting`), `"onnx"` or
            `"openvino"` (`export.onnx_and_openvino`), or `"web"` (`export.web.site`), for presets only.
        precision: `"float32"`, `"float16"` or `"int8"`. A float16 SavedModel computes in mixed precision, for GPUs
            (default: float32). A float16 LiteRT file stores weights in float16 and computes in float32 (the default).
            An int8 LiteRT file computes mostly in int8 (see `export.quantization`). ONNX and OpenVINO: float32.
            A page: int8 for a preset with an int8 file, or with `calibration`, else float32.
        size: image size of the network, one number or `(height, width)`; None: the model's own size. A network whose
            weights depend on the size cannot be resized.
        signatures: names of the signatures to export; None: all.
        max_pixels: largest image in a request to a SavedModel; None: 50 million pixels.
        input_dtype: dtype of the images of a LiteRT file, `"float32"` (None) or `"uint8"`. A SavedModel accepts both.
        calibration: folder of images like those that an int8 file will run on; 100 of them are used. For an `RCAUNet`,
            each subfolder is a group. None: export the preset's own int8 file, if it has one.
        group_preset: co-saliency preset for the groups of a page whose own preset is for single photos; None:
            `"rcau_lite0"`.
        log: called with a line of text at each stage.

    Returns:
        The contents of `export.json` plus `folder`. Some of the keys are `model`, `licence`, `versions`, `signatures`,
        `files`, `verification` (see `export.verification.compare`) and, for LiteRT, `operations` (see
        `export.litert.flatbuffer.count_operations`), `gpu_incompatible` (see `export.gpu_incompatible`) and, for int8,
        `calibration`. For a page, `networks` is a list with these keys of each network.

    Raises:
        ConfigError: if an argument is invalid or does not suit the model, or if `out` contains other files.
        ConversionError: if the conversion or the verification fails.
        DiskError: if the disk is full or the folder is not writable.
        MissingExtraError: if TensorFlow or another package that the export needs is not installed.
        PresetError: if the preset does not exist or is damaged.

    Example:
        >>> export_model("recnet_lite0", "serving/recnet_lite0", format="savedmodel")["verification"]["differences"]
    """
    if format not in FORMATS:
        raise ConfigError(f"`format` must be one of {tuple(FORMATS)}. Received: format={format!r}")
    if precision not in (None, *FORMATS[format]):
        raise ConfigError(f"`precision` must be one of {FORMATS[format]}. Received: precision={precision!r}")
    if input_dtype not in (None, *INPUT_DTYPES):
        raise ConfigError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    if input_dtype and format != "litert":
        raise ConfigError(
            f"`input_dtype` is for LiteRT; a SavedModel accepts both. Received: input_dtype={input_dtype!r}"
        )
    if max_pixels is not None and format != "savedmodel":
        raise ConfigError(f"`max_pixels` is for SavedModels, which read image files. Received: format={format!r}")
    if group_preset is not None and format != "web":
        raise ConfigError(f"`group_preset` is for the format 'web'. Received: format={format!r}")
    require_tensorflow()
    _require_packages(format)
    options = {
        "size": [size, size] if isinstance(size, int) else size,
        "signatures": signatures,
        "max_pixels": max_pixels,
        "input_dtype": input_dtype,
        "calibration": calibration and os.fspath(calibration),
        "log": log,
    }
    if format == "web":
        networks = _networks_of_page(source, group_preset, precision, options)
    else:
        precision = precision or FORMATS[format][0]
        _check_calibration(source, precision, calibration, size, signatures)
    out = Path(out)
    _check_out(out, format)
    with _work_folder(out) as work:
        if format == "web":
            artifact, card, facts = work, None, {"networks": _write_page(networks, work, options)}
        else:
            artifact = work / {"savedmodel": "model", "litert": presets.LITERT}.get(format, "")
            report, verified = write_and_verify(source, artifact, kind=format, precision=precision, **options)
            card, facts = report.pop("card"), {"precision": precision, **_facts(report, verified)}
        description = {
            "format": format,
            "preprocessing": PREPROCESSING,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **facts,
        }
        return _finish(out, artifact, description, card)


def _facts(report, verified):
    """Return what `export.json` says about a network, from the results of `write_and_verify`."""
    facts = {
        "model": report["model"],
        "licence": report["licence"],
        "versions": {"keras_recnet": keras_recnet.__version__, **report["versions"], **verified.pop("versions")},
        "signatures": report["signatures"],
        "verification": verified,
    }
    return facts | {key: report[key] for key in ("calibration", "operations", "gpu_incompatible") if key in report}


def _networks_of_page(source, group_preset, precision, options):
    """Return `(preset, precision)` of each network of a page."""
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError("A page contains presets: save the model with `save_to_preset`, and export that folder.")
    if options["signatures"] is not None:
        raise ConfigError("`signatures` is not for pages, which need all of them.")
    preset, group = presets.find(source), None
    if group_preset is not None:
        group = presets.find(group_preset)
        if preset.task == presets.COSALIENCY:
            raise ConfigError(f"`group_preset` is not needed: {source} itself is for groups.")
        if group.task != presets.COSALIENCY:
            raise ConfigError(f"`group_preset` must be a co-saliency preset. Received: group_preset={group_preset!r}")
    networks = []
    for each in site.find_presets(preset, group):
        int8 = each.has(presets.LITERT_INT8) or options["calibration"] is not None
        networks.append((each, precision or ("int8" if int8 else "float32")))
        calibration = options["calibration"] if networks[-1][1] == "int8" else None
        _check_calibration(each.folder, networks[-1][1], calibration, options["size"])
    return networks


def _write_page(networks, folder, options):
    """Write a page, and return what `export.json` says about each of its networks."""
    facts, contents = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for preset, precision in networks:
            file = Path(scratch, "network") / presets.LITERT
            file.parent.mkdir(exist_ok=True)
            of_network = {**options, "calibration": options["calibration"] if precision == "int8" else None}
            options["log"](f"{preset.name}, {precision}:")
            report, verified = write_and_verify(
                preset.folder, file, kind="litert", precision=precision, expose_attention=True, **of_network
            )
            facts.append({"name": preset.name, "precision": precision, **_facts(report, verified)})
            contents.append((preset, file.read_bytes()))
    site.write(folder, contents)
    return facts


def write_and_verify(source, artifact: Path, *, kind: str, log=lambda line: None, **options) -> tuple[dict, dict]:
    """Write an artifact and compare it with Keras.

    Args:
        source: a model, or the name or folder of a preset.
        artifact: the folder or file to write.
        kind: the format.
        log: called with a line of text at each stage.
        **options: `precision`, `size`, `signatures`, `max_pixels`, `input_dtype` and `calibration` of `export_model`;
            `expose_attention`: whether a LiteRT file also returns the keys of its attention (`export.web.attention`).

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
        if "calibration" in report:
            log(_describe_calibration(report["calibration"]))
        log("Verifying in a separate process …")
        verification.run(kind, artifact, calls)
        verified = verification.compare(calls, verification.TOLERANCE[kind, options["precision"]])
    return {**report, "model": {**described, **report["model"]}, "card": card}, verified


def convert(
    model,
    out: str | os.PathLike,
    *,
    precision: str = "float16",
    input_dtype: str = "float32",
    calibration: str | os.PathLike | None = None,
) -> Path:
    """Convert a model to a LiteRT file, and verify it against Keras.

    Args:
        model: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: output file, `….tflite`.
        precision: precision of the stored weights, `"float16"` (half the size) or `"float32"`, for computation in
            float32; or `"int8"`, for computation mostly in int8.
        input_dtype: dtype of the images, `"float32"` or `"uint8"`; values are always RGB in 0…255.
        calibration: as for `export_model`.

    Returns:
        The path of the file.

    Raises:
        ConfigError: if int8 needs a calibration.
        ConversionError: if the conversion or the verification fails.
        MissingExtraError: if TensorFlow or, for int8, ai-edge-quantizer is not installed.
        PresetError: if the preset does not exist or is damaged.

    Example:
        >>> convert("recnet_lite0", "recnet_lite0.tflite")
    """
    if precision not in FORMATS["litert"]:
        raise ValueError(f"`precision` must be one of {FORMATS['litert']}. Received: precision={precision!r}")
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    require_tensorflow()
    _check_calibration(model, precision, calibration)
    options = {"precision": precision, "input_dtype": input_dtype}
    options["calibration"] = calibration and os.fspath(calibration)
    with atomic_path(out) as temporary:
        write_and_verify(model, temporary, kind="litert", **options)
    return Path(out)


def add_to_preset(
    folder: str | os.PathLike,
    *,
    precision: str = "float16",
    input_dtype: str = "float32",
    calibration: str | os.PathLike | None = None,
) -> Path:
    """Convert a preset and add the LiteRT file to its folder and the checksum to its `config.json`.

    Args:
        folder: folder of the preset, from `save_to_preset` of a `RecNet` or `RCAUNet`.
        precision: as for `convert`. An int8 file is called `model.int8.tflite`, others `model.tflite`.
        input_dtype: as for `convert`; the engines accept both.
        calibration: as for `export_model`.

    Returns:
        The path of the LiteRT file. Raises the errors of `convert`.
    """
    preset = presets.find(folder)
    name = presets.LITERT_INT8 if precision == "int8" else presets.LITERT
    out = preset.folder / name
    convert(preset.folder, out, precision=precision, input_dtype=input_dtype, calibration=calibration)
    presets.write_config(preset.folder, preset.config, sorted({*preset.config["files"], name}))
    return out


def require_tensorflow() -> None:
    """Raise `MissingExtraError` if TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError('Exports need TensorFlow: pip install "keras-recnet[tensorflow]".')


def _require_packages(extra):
    for package in _PACKAGES.get(extra, ()):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f'{extra} exports need more packages: pip install "keras-recnet[{extra}]". Missing: {package}'
            )


def _check_calibration(source, precision, calibration, size=None, signatures=None):
    if precision != "int8":
        if calibration is not None:
            raise ConfigError(f"`calibration` is for int8. Received: precision={precision!r}")
        return
    if calibration is not None:
        if not Path(calibration).is_dir():
            raise ConfigError(f"{calibration}: no such folder of images for the calibration.")
        _require_packages("int8")
        return
    preset = presets.find(source) if isinstance(source, (str, os.PathLike)) else None
    if preset is None or not preset.has(presets.LITERT_INT8):
        reason = "this network has no int8 file yet"
    elif signatures is not None or size not in (
        None,
        preset.config["image_size"][0],
        tuple(preset.config["image_size"]),
    ):
        reason = f"{presets.LITERT_INT8} of this preset has all signatures and its own image size"
    else:
        return
    raise ConfigError(
        f"int8 needs a folder of photos like those that the network will see, to measure the range of its values "
        f"(--calibration FOLDER, {CALIBRATION_IMAGES} photos are used): {reason}."
    )


def _describe_calibration(calibration):
    text = f"Calibrated with {calibration['images']} images"
    if "groups" in calibration:
        text += f" in {calibration['groups']} groups"
    if calibration["images"] < CALIBRATION_IMAGES:
        text += f"; {CALIBRATION_IMAGES} would be better"
    unreadable = calibration.get("unreadable", ())
    return f"{text}. {len(unreadable)} could not be read, such as: {unreadable[0]}" if unreadable else f"{text}."


def _check_out(out, format):
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file. Choose another output folder.")
    if not out.is_dir():
        return
    names = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    if format == "savedmodel":
        others = sorted(name for name in names if not name.isdecimal())
    else:
        others = sorted(set(names) - _FILES[format] - {DESCRIPTION, CARD})
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
    if description["format"] == "savedmodel":
        target = _rename_to_next_number(artifact, out)
    else:
        target = out
        new = sorted(folder.iterdir(), key=lambda path: path.name == DESCRIPTION)
        for path in new:
            if path.is_dir() and (out / path.name).is_dir():  # of an earlier export
                shutil.rmtree(out / path.name)
            path.replace(out / path.name)
        for old in (_FILES[description["format"]] | {CARD}) - {path.name for path in new}:
            (out / old).unlink(missing_ok=True)  # of an earlier export
    return {**description, "folder": os.fspath(target)}


def _rename_to_next_number(folder, out):
    while True:
        taken = [int(path.name) for path in out.iterdir() if path.name.isdecimal()]
        target = out / str(max(taken, default=0) + 1)
        try:
            return folder.rename(target)
        except OSError as error:  # another export has taken the number in the meantime
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
