"""Runs in a process of its own: builds the model, writes the artifact, and what its proof needs.

TensorFlow's converter leaks memory and can crash; and precision is a setting of the whole process.
"""

import json
from importlib.metadata import version
from pathlib import Path

import keras

import keras_recnet
from keras_recnet import models
from keras_recnet.errors import RecNetError
from keras_recnet.export import exporting, metadata, verification
from keras_recnet.export.litert import converting
from keras_recnet.export.litert import signatures as litert_signatures
from keras_recnet.export.savedmodel import signatures as savedmodel_signatures
from keras_recnet.export.savedmodel import writing


def main(arguments: str) -> int:
    """Makes what `keras_recnet.export.exporting` asks for, a JSON object, and writes `made.json` beside the calls.

    Returns:
        0; or 1 for an error that is the caller's, which is in `error.txt`.
    """
    asked = json.loads(arguments)
    try:
        _make(asked)
    except (RecNetError, ValueError) as error:
        said = str(error)
        said = said if said.startswith(asked["source"]) else f"{asked['source']}: {said}"
        (Path(asked["calls"]) / "error.txt").write_text(said, encoding="utf-8")
        return 1
    return 0


def _make(asked):
    kind, precision, input_dtype = asked["kind"], asked["precision"], asked.get("input_dtype") or "float32"
    model = load(asked["source"], asked.get("size"))
    artifact, calls = Path(asked["artifact"]), Path(asked["calls"])
    licence = metadata.licence(Path(asked["source"]) / exporting.CARD)
    if kind == "savedmodel":
        max_pixels = asked.get("max_pixels") or savedmodel_signatures.MAX_PIXELS
        served = savedmodel_signatures.of(in_precision(model, precision), max_pixels)
        served = chosen(asked.get("signatures"), served)
        writing.write(model, served, artifact)
        described = metadata.of_functions(served)
    else:
        max_pixels = 0
        parts = chosen(asked.get("signatures"), litert_signatures.of(model))
        served = {name: converting.function(part) for name, part in parts.items()}
        described = metadata.of_functions(served, input_dtype)
        about = {
            "keras_recnet": keras_recnet.__version__,
            "model": type(model).__name__,
            "preprocessing": exporting.PREPROCESSING,
            "licence": licence,
            "signatures": described,
        }
        artifact.write_bytes(converting.convert_parts(parts, precision, input_dtype=input_dtype, about=about))
    verification.prepare(model, calls, kind=kind, names=list(served), max_pixels=max_pixels, input_dtype=input_dtype)
    made = {
        "model": {
            "class": type(model).__name__,
            "task": model.task,
            "arguments": model.get_config(),
            "parameters": model.count_params(),
            "image_size": list(model.image_size),
        },
        "signatures": described,
        "licence": licence,
        "versions": {name: version(name) for name in ("keras", "tensorflow")},
    }
    if kind == "litert":
        from keras_recnet.export.litert import gpu_delegate  # LiteRT's, which a SavedModel does without

        made["gpu_incompatible"] = gpu_delegate.gpu_incompatible(artifact)
    (calls / "made.json").write_text(json.dumps(made))


def load(source: str, size: list[int] | None) -> keras.Model:
    """The model of a preset or a `.keras` file, for another size than its own if one is given."""
    if source.endswith(".keras"):
        model = models.load_model(source)
        if size is None or tuple(size) == tuple(model.image_size):
            return model
        resized = type(model).from_config({**model.get_config(), "image_size": list(size)})
        resized.set_weights(model.get_weights())
        return resized
    return models.from_preset(source, **({} if size is None else {"image_size": list(size)}))


def in_precision(model: keras.Model, precision: str) -> keras.Model:
    """The model, or for float16 one of the same weights that computes in mixed precision, scores in float32."""
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


def chosen(asked: list[str] | None, known: dict) -> dict:
    """Of the signatures that there are, those asked for, or all.

    Raises:
        ConversionError: if one is asked for that the model has not.
    """
    unknown = [name for name in asked or () if name not in known]
    if unknown:
        raise verification.ConversionError(
            f"no such signature {unknown[0]!r}. This model has in this format: {', '.join(known)}."
        )
    return {name: signature for name, signature in known.items() if asked is None or name in asked}
