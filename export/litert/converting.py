"""LiteRT: the inference network as one file that runs without TensorFlow.

The file of a `RecNet` has one signature, `serving_default`: input `image` float32 or uint8 `(1, H, W, 3)`, RGB in
0…255; output `saliency` float32 `(1, H, W, 1)` in 0…1. That of an `RCAUNet` has `encode`, `step` and `decode`, so that
a group of any size runs in constant memory: every image is encoded and taken into the state, then every image is
decoded with the last state (see `keras_recnet.export.litert.signatures`). Batch and size are fixed, no operation beyond
LiteRT's own ("Flex") is needed, and none that its GPU delegate lacks but for group normalisation
(`keras_recnet.export.litert.gpu_delegate`). What the tensors mean stands in the file itself (`edits.read_metadata`).

TensorFlow's converter leaks memory and can crash, so it runs in a process of its own.
"""

import os
import tempfile
from pathlib import Path

from keras_recnet import presets
from keras_recnet.export import exporting
from keras_recnet.export.metadata import INPUT_DTYPES
from keras_recnet.files import atomic_path

PRECISIONS = ("float16", "float32")


def convert(model, out: str | os.PathLike, *, precision: str = "float16", input_dtype: str = "float32") -> Path:
    """Writes the inference network as a LiteRT file, after comparing both on test images.

    Args:
        model: a `RecNet` or `RCAUNet`, or the name or folder of a preset.
        out: the file to write, `….tflite`.
        precision: of the stored weights, `"float16"` (half the size) or `"float32"`; the computation is in float32
            either way.
        input_dtype: of the images, `"float32"` or `"uint8"`; their values are RGB in 0…255 either way.

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
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    exporting.need_tensorflow()
    with atomic_path(out) as temporary:
        exporting.make_and_prove(model, temporary, kind="litert", precision=precision, input_dtype=input_dtype)
    return Path(out)


def add_to_preset(folder: str | os.PathLike, *, precision: str = "float16", input_dtype: str = "float32") -> Path:
    """Converts a preset and puts `model.tflite` into its folder, with its checksum in `config.json`.

    Args:
        folder: of the preset, as `save_to_preset` of a `RecNet` or `RCAUNet` wrote it.
        precision: as `convert`'s.
        input_dtype: as `convert`'s; the engines take both.

    Returns:
        The path of the LiteRT file.

    Raises:
        ConversionError: if the conversion fails or the file computes something else than Keras.
        MissingExtraError: if TensorFlow is not installed.
        PresetError: if there is no such preset or it is damaged.
    """
    preset = presets.find(folder)
    out = convert(preset.folder, preset.folder / presets.LITERT, precision=precision, input_dtype=input_dtype)
    presets.write_config(preset.folder, preset.config, sorted({*preset.config["files"], presets.LITERT}))
    return out


def convert_parts(parts: dict, precision: str, *, input_dtype: str = "float32", about: dict | None = None) -> bytes:
    """The contents of a LiteRT file of the parts, `keras_recnet.export.litert.signatures`.

    To be called in a process of its own: TensorFlow's converter leaks memory and can crash.

    Args:
        parts: as `signatures.of` gives them.
        precision: as `convert`'s.
        input_dtype: as `convert`'s.
        about: what `flatbuffer.read_metadata` shall give back; None: nothing.
    """
    import tensorflow as tf

    from keras_recnet.export.litert import flatbuffer  # LiteRT's, which a SavedModel does without

    # A module of the functions and their variables alone: Keras' own export writes every layer's functions as well,
    # which takes three times as long.
    module = tf.Module()
    module.held = [variable.value for part in parts.values() for variable in part.variables]
    module.functions = {name: function(part) for name, part in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(module.functions))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    return flatbuffer.finish(content, input_dtype=input_dtype, about=about)


def function(part):
    """A part as a `tf.function` of named tensors, for one image."""
    import tensorflow as tf

    names = list(part.input)
    return tf.function(
        lambda *tensors: part(dict(zip(names, tensors, strict=True)), training=False),
        input_signature=[tf.TensorSpec((1, *part.input[name].shape[1:]), tf.float32, name=name) for name in names],
    )
