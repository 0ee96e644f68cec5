"""Conversion to LiteRT, one file that runs without TensorFlow.

The file of a `RecNet` has one signature, `serving_default`: input `image` float32 or uint8 `(1, H, W, 3)`, RGB in
0…255; output `saliency` float32 `(1, H, W, 1)` in 0…1. That of an `RCAUNet` has `encode`, `step` and `decode`, which
run a group of any size in constant memory: each image is encoded and updates the state of the group, then each image is
decoded with the final state (see `keras_recnet.export.litert.signatures`). Batch size and image size are fixed. The
files need no Flex operations and, except for group normalization, no operation that the GPU delegate lacks (see
`keras_recnet.export.litert.gpu_delegate`). `flatbuffer.read_metadata` returns the description that a file contains.
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
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}")
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    exporting.require_tensorflow()
    with atomic_path(out) as temporary:
        exporting.write_and_verify(model, temporary, kind="litert", precision=precision, input_dtype=input_dtype)
    return Path(out)


def add_to_preset(folder: str | os.PathLike, *, precision: str = "float16", input_dtype: str = "float32") -> Path:
    """Convert a preset and add `model.tflite` to its folder and the checksum to its `config.json`.

    Args:
        folder: folder of the preset, from `save_to_preset` of a `RecNet` or `RCAUNet`.
        precision: as for `convert`.
        input_dtype: as for `convert`; the engines accept both.

    Returns:
        The path of the LiteRT file. The errors are those of `convert`.
    """
    preset = presets.find(folder)
    out = convert(preset.folder, preset.folder / presets.LITERT, precision=precision, input_dtype=input_dtype)
    presets.write_config(preset.folder, preset.config, sorted({*preset.config["files"], presets.LITERT}))
    return out


def convert_parts(parts: dict, precision: str, *, input_dtype: str = "float32", metadata: dict | None = None) -> bytes:
    """Return the contents of a LiteRT file with the given signatures.

    Call it in a separate process, since TensorFlow's converter leaks memory and can crash.

    Args:
        parts: the signatures, from `signatures.build`.
        precision: as for `convert`.
        input_dtype: as for `convert`.
        metadata: what `flatbuffer.read_metadata` will return; None: no metadata.
    """
    import tensorflow as tf

    from keras_recnet.export.litert import flatbuffer  # needs LiteRT, which a SavedModel does not

    # Only these functions and their variables: Keras' export would also write the functions of all layers, which takes
    # three times as long.
    module = tf.Module()
    module.all_variables = [variable.value for part in parts.values() for variable in part.variables]
    module.functions = {name: to_function(part) for name, part in parts.items()}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(module.functions))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(parts))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    return flatbuffer.finish(content, input_dtype=input_dtype, metadata=metadata)


def to_function(part):
    """Return a signature as a `tf.function` of named tensors with a batch size of 1."""
    import tensorflow as tf

    names = list(part.input)
    return tf.function(
        lambda *tensors: part(dict(zip(names, tensors, strict=True)), training=False),
        input_signature=[tf.TensorSpec((1, *part.input[name].shape[1:]), tf.float32, name=name) for name in names],
    )
