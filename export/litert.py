"""LiteRT: the inference network as one file that runs without TensorFlow.

The file of a `RecNet` has one signature, `serving_default`: input `image` float32 `(1, H, W, 3)`, RGB in 0…255; output
`saliency` float32 `(1, H, W, 1)` in 0…1. That of an `RCAUNet` has `encode`, `step` and `decode`, so that a group of any
size runs in constant memory: every image is encoded and taken into the state, then every image is decoded with the
last state (see `keras_recnet.export.signatures`). Batch and size are fixed, and no operation beyond LiteRT's own
("Flex") is needed.

TensorFlow's converter leaks memory and can crash, so it runs in a process of its own.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_recnet import presets
from keras_recnet.errors import MissingExtraError, RecNetError
from keras_recnet.files import atomic_path

PRECISIONS = ("float16", "float32")
# Mean difference of a map from Keras' that is let through. Rounding the weights to float16 costs about 0.001.
TOLERANCE = {"float16": 0.005, "float32": 0.00005}


class ConversionError(RecNetError):
    """A conversion that failed, or whose file does not compute what Keras computes."""


def convert(model, out: str | os.PathLike, *, precision: str = "float16") -> Path:
    """Writes the inference network as a LiteRT file, after comparing both on test images.

    Args:
        model: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: the file to write, `….tflite`.
        precision: of the stored weights, `"float16"` (half the size) or `"float32"`; the computation is in float32
            either way.

    Returns:
        The path of the file.

    Raises:
        ConversionError: if the conversion fails or the file computes something else than Keras.
        MissingExtraError: if TensorFlow is not installed.
        PresetError: if there is no such preset or it is damaged.

    Example:
        >>> convert("recnet_lite0", "recnet_lite0.tflite")
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}")
    _need_tensorflow()
    if isinstance(model, (str, os.PathLike)):
        preset = presets.find(model)
        preset.file(presets.WEIGHTS)  # checked here, where its error is not another process' last lines
        return _convert_elsewhere(preset.folder, Path(out), precision)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        return _convert_elsewhere(file, Path(out), precision)


def add_to_preset(folder: str | os.PathLike, *, precision: str = "float16") -> Path:
    """Converts a preset and puts `model.tflite` into its folder, with its checksum in `config.json`.

    Args:
        folder: of the preset, as `save_to_preset` of a `RecNet` or `RCAUNet` wrote it.
        precision: as `convert`'s.

    Returns:
        The path of the LiteRT file.

    Raises:
        as `convert`.
    """
    preset = presets.find(folder)
    out = convert(preset.folder, preset.folder / presets.LITERT, precision=precision)
    presets.write_config(preset.folder, preset.config, sorted({*preset.config["files"], presets.LITERT}))
    return out


def _need_tensorflow():
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError('Conversion to LiteRT needs TensorFlow: pip install "keras-recnet[tensorflow]".')


def _convert_elsewhere(source, out, precision):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # whatever made this module importable here
    }
    with atomic_path(out) as temporary:
        code = "import sys; from keras_recnet.export import litert; litert._convert_here(*sys.argv[1:])"
        command = [sys.executable, "-c", code, source, temporary, precision]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
            raise ConversionError(f"{source}: the conversion to LiteRT failed (status {done.returncode}):\n{last}")
    return out


def _convert_here(source, out, precision):
    """Runs in the process of its own: converts, then checks the file's operations and its output."""
    from keras_recnet import models
    from keras_recnet.export import signatures

    if source.endswith(".keras"):
        model = models.load_model(source)
    else:
        model = getattr(models, presets.find(source).config["class"]).from_preset(source)
    parts = signatures.of(model)
    Path(out).write_bytes(_flatbuffer(parts, precision))

    images = np.random.default_rng(0).uniform(0, 255, (3, 1, *model.image_size, 3)).astype("float32")
    difference = float(np.abs(_run(out, images) - _expected(model, parts, images)).mean())
    if not difference <= TOLERANCE[precision]:
        raise ConversionError(
            f"{out}: the LiteRT file computes something else than Keras: the maps may differ by "
            f"{TOLERANCE[precision]} on average. Received: {difference}"
        )


def _flatbuffer(parts, precision):
    import tensorflow as tf

    # A module of the functions and their variables alone: Keras' own export writes every layer's functions as well,
    # which takes three times as long.
    module = tf.Module()
    module.held = [variable.value for part in parts.values() for variable in part.variables]
    module.functions = {name: _function(part) for name, part in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(module.functions))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def _function(part):
    import tensorflow as tf

    names = list(part.input)
    return tf.function(
        lambda *tensors: part(dict(zip(names, tensors, strict=True)), training=False),
        input_signature=[tf.TensorSpec((1, *part.input[name].shape[1:]), tf.float32, name=name) for name in names],
    )


def _expected(model, parts, images):
    import keras

    if len(parts) > 1:
        return np.stack([saliency for saliency, _ in model.stream(images[:, 0])])[:, None, ..., None]
    (part,) = parts.values()
    return np.stack(
        [keras.ops.convert_to_numpy(part({"image": image}, training=False)["saliency"]) for image in images]
    )


def _run(file, images):
    """Maps `(images, 1, H, W, 1)` by the file, of a network of groups those of one group."""
    from ai_edge_litert.interpreter import Interpreter

    from keras_recnet.export.signatures import DECODE, ENCODE, SALIENCY, STEP

    # The interpreter of the pip package knows no Flex operations: a file that needs them fails here.
    interpreter = Interpreter(file)
    run = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    if SALIENCY in run:
        return np.stack([run[SALIENCY](image=image)["saliency"] for image in images])
    features = [run[ENCODE](image=image) for image in images]
    group = {}
    if STEP in run:
        state = np.zeros(run[STEP].get_input_details()["state"]["shape"], "float32")
        first = features[0]["x"]
        state[..., : first.shape[-1]] = first
        for of_image in features:
            state = run[STEP](x=of_image["x"], state=state)["state"]
        group["state"] = state
    return np.stack([run[DECODE](**of_image, **group)["saliency"] for of_image in features])
