"""Worker process of an export: builds the model, and writes the artifact and the inputs of its verification.

It is a separate process since TensorFlow's converter leaks memory and can crash, and since the precision is a global
setting.
"""

import functools
import json
from importlib.metadata import version
from pathlib import Path

import keras

import keras_recnet
from keras_recnet import models, presets
from keras_recnet.errors import ConfigError, RecNetError
from keras_recnet.export import exporting, metadata, sample_images, verification
from keras_recnet.export.litert import signatures as litert_signatures


def main(arguments: str) -> int:
    """Run a job from `exporting._run_worker`, a JSON object, and write `report.json` to its folder `calls`.

    Returns:
        0, or 1 if the caller made an error; the message is then in `error.txt`.
    """
    job = json.loads(arguments)
    try:
        _run(job)
    except (RecNetError, ValueError) as error:
        message = str(error)
        message = message if message.startswith(job["source"]) else f"{job['source']}: {message}"
        (Path(job["calls"]) / "error.txt").write_text(message, encoding="utf-8")
        return 1
    return 0


def _run(job):
    model = load_model(job["source"], job.get("size"))
    licence = metadata.licence(Path(job["source"]) / exporting.CARD)
    about = {
        "keras_recnet": keras_recnet.__version__,
        "model": type(model).__name__,
        "preprocessing": exporting.PREPROCESSING,
        "licence": licence,
    }
    signatures, facts = _WRITERS[job["kind"]](job, model, Path(job["artifact"]), about)
    verification.prepare(
        model,
        Path(job["calls"]),
        kind=job["kind"],
        names=list(signatures),
        max_pixels=_max_pixels(job),
        input_dtype=_input_dtype(job),
    )
    report = {
        "model": {
            "class": type(model).__name__,
            "task": model.task,
            "arguments": model.get_config(),
            "parameters": model.count_params(),
            "image_size": list(model.image_size),
        },
        "signatures": signatures,
        "licence": licence,
        "versions": {name: version(name) for name in ("keras", "tensorflow")},
        **facts,
    }
    (Path(job["calls"]) / "report.json").write_text(json.dumps(report))


def _write_savedmodel(job, model, artifact, about):
    from keras_recnet.export.savedmodel import signatures, writing

    functions = signatures.build(to_precision(model, job["precision"]), _max_pixels(job))
    functions = select(job.get("signatures"), functions)
    writing.write(model, functions, artifact, sample_images.draw((240, 320)))
    return metadata.describe(functions), {}


def _write_litert(job, model, artifact, about):
    from keras_recnet.export.litert import converting, flatbuffer, gpu_delegate

    parts = select(job.get("signatures"), litert_signatures.build(model))
    functions = {name: converting.to_function(part) for name, part in parts.items()}
    signatures = metadata.describe(functions, _input_dtype(job))
    about, facts = {**about, "signatures": signatures}, {}
    if job["precision"] == "int8":
        content, facts["calibration"] = _int8(job, model, parts, about)
    else:
        content = converting.convert_parts(parts, job["precision"], input_dtype=_input_dtype(job), metadata=about)
    if job.get("expose_attention"):
        from keras_recnet.export.web import attention

        content, _ = attention.expose_keys(content)
    artifact.write_bytes(content)
    return signatures, {
        **facts,
        "operations": flatbuffer.count_operations(content),
        "gpu_incompatible": gpu_delegate.gpu_incompatible(artifact),
    }


def _int8(job, model, parts, about):
    """Return the contents of an int8 file and the description of its calibration."""
    from keras_recnet.export import quantization
    from keras_recnet.export.litert import converting, flatbuffer

    if job.get("calibration") is None:
        own = presets.find(job["source"]).file(presets.LITERT_INT8)
        calibration = flatbuffer.read_metadata(own)["calibration"]
        about = {**about, "calibration": calibration}
        return flatbuffer.finish(own.read_bytes(), input_dtype=_input_dtype(job), metadata=about), calibration
    grouped = model.task == presets.COSALIENCY
    groups, unreadable = quantization.read_images(job["calibration"], model.image_size, grouped=grouped)
    calibration = {"images": sum(map(len, groups)), "seed": quantization.SEED}
    if grouped:
        calibration["groups"] = len(groups)
    about = {**about, "calibration": calibration}
    quantize = functools.partial(quantization.quantize, groups=groups)
    options = {"quantize": quantize, "input_dtype": _input_dtype(job), "metadata": about}
    content = converting.convert_parts(parts, "float32", **options)
    return content, {**calibration, "unreadable": unreadable}


def _write_onnx_or_openvino(job, model, artifact, about):
    from keras_recnet.export import onnx_and_openvino

    parts = select(job.get("signatures"), onnx_and_openvino.with_unique_names(litert_signatures.build(model)))
    onnx_and_openvino.write(parts, artifact, format=job["kind"], about=about)
    return metadata.describe_models(parts), {}


_WRITERS = {
    "savedmodel": _write_savedmodel,
    "litert": _write_litert,
    "onnx": _write_onnx_or_openvino,
    "openvino": _write_onnx_or_openvino,
}


def _max_pixels(job):
    from keras_recnet.export.savedmodel import signatures

    return job.get("max_pixels") or signatures.MAX_PIXELS


def _input_dtype(job):
    return job.get("input_dtype") or "float32"


def load_model(source: str, size: list[int] | None) -> keras.Model:
    """Return the model of a preset or a `.keras` file, rebuilt for `size` if it is not None."""
    if source.endswith(".keras"):
        model = models.load_model(source)
        if size is None or tuple(size) == tuple(model.image_size):
            return model
        resized = type(model).from_config({**model.get_config(), "image_size": list(size)})
        resized.set_weights(model.get_weights())
        return resized
    return models.from_preset(source, **({} if size is None else {"image_size": list(size)}))


def to_precision(model: keras.Model, precision: str) -> keras.Model:
    """Return the model or, for float16, a copy that computes in mixed precision, with attention scores in float32."""
    if precision == "float32":
        return model
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = type(model).from_config(model.get_config())
    finally:
        keras.config.set_dtype_policy(before)
    mixed.set_weights(model.get_weights())
    return mixed


def select(names: list[str] | None, signatures: dict) -> dict:
    """Return the requested signatures, or all if `names` is None.

    Raises:
        ConfigError: if the model lacks one of the requested signatures.
    """
    for name in names or ():
        if name not in signatures:
            raise ConfigError(f"no signature {name!r} in this format. Choose from: {', '.join(signatures)}.")
    return {name: signature for name, signature in signatures.items() if names is None or name in names}
