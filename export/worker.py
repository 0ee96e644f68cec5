"""Worker process of an export: builds the model, and writes the artifact and the inputs of its verification.

It is a separate process since TensorFlow's converter leaks memory and can crash, and since the precision is a global
setting.
"""

import json
from importlib.metadata import version
from pathlib import Path

import keras

import keras_recnet
from keras_recnet import models
from keras_recnet.errors import ConfigError, RecNetError
from keras_recnet.export import exporting, metadata, sample_images, verification
from keras_recnet.export.litert import converting
from keras_recnet.export.litert import signatures as litert_signatures
from keras_recnet.export.savedmodel import signatures as savedmodel_signatures
from keras_recnet.export.savedmodel import writing


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
    kind, precision, input_dtype = job["kind"], job["precision"], job.get("input_dtype") or "float32"
    model = load_model(job["source"], job.get("size"))
    artifact, calls = Path(job["artifact"]), Path(job["calls"])
    licence = metadata.licence(Path(job["source"]) / exporting.CARD)
    if kind == "savedmodel":
        max_pixels = job.get("max_pixels") or savedmodel_signatures.MAX_PIXELS
        functions = savedmodel_signatures.build(to_precision(model, precision), max_pixels)
        functions = select(job.get("signatures"), functions)
        writing.write(model, functions, artifact, sample_images.draw((240, 320)))
        signatures = metadata.describe(functions)
    else:
        max_pixels = 0
        parts = select(job.get("signatures"), litert_signatures.build(model))
        functions = {name: converting.to_function(part) for name, part in parts.items()}
        signatures = metadata.describe(functions, input_dtype)
        about = {
            "keras_recnet": keras_recnet.__version__,
            "model": type(model).__name__,
            "preprocessing": exporting.PREPROCESSING,
            "licence": licence,
            "signatures": signatures,
        }
        artifact.write_bytes(converting.convert_parts(parts, precision, input_dtype=input_dtype, metadata=about))
    verification.prepare(model, calls, kind=kind, names=list(functions), max_pixels=max_pixels, input_dtype=input_dtype)
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
    }
    if kind == "litert":
        from keras_recnet.export.litert import gpu_delegate  # needs LiteRT, which a SavedModel does not

        report["gpu_incompatible"] = gpu_delegate.gpu_incompatible(artifact)
    (calls / "report.json").write_text(json.dumps(report))


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
