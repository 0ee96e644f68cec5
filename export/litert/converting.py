"""Conversion to LiteRT, one file that runs without TensorFlow.

The file of a `RecNet` has one signature, `serving_default`: input `image` float32 or uint8 `(1, H, W, 3)`, RGB in
0…255; output `saliency` float32 `(1, H, W, 1)` in 0…1. An `RCAUNet`'s file has `encode`, `step` and `decode`, which
run a group of any size in constant memory: each image is encoded and updates the state of the group, then each image is
decoded with the final state (see `keras_recnet.export.litert.signatures`). Batch size and image size are fixed. The
files need no Flex operations and no operation that the GPU delegate lacks (see
`keras_recnet.export.litert.gpu_delegate`). `flatbuffer.read_metadata` returns the description that a file contains.
"""

import tempfile
from collections.abc import Callable


def convert_parts(
    parts: dict,
    precision: str,
    *,
    quantize: Callable[[bytes], bytes] | None = None,
    input_dtype: str = "float32",
    metadata: dict | None = None,
) -> bytes:
    """Return the contents of a LiteRT file with the given signatures.

    Call it in a separate process, since TensorFlow's converter leaks memory and can crash.

    Args:
        parts: the signatures, from `signatures.build`.
        precision: `"float16"` or `"float32"`, see `convert`.
        quantize: quantizes the contents of a float32 file.
        input_dtype: as for `convert`.
        metadata: the dict that `flatbuffer.read_metadata` will return; None: no metadata.
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
    if quantize is not None:
        content = quantize(content)
    return flatbuffer.finish(content, input_dtype=input_dtype, metadata=metadata)


def to_function(part):
    """Return a signature as a `tf.function` of named tensors with a batch size of 1."""
    import tensorflow as tf

    names = list(part.input)
    return tf.function(
        lambda *tensors: part(dict(zip(names, tensors, strict=True)), training=False),
        input_signature=[tf.TensorSpec((1, *part.input[name].shape[1:]), tf.float32, name=name) for name in names],
    )
