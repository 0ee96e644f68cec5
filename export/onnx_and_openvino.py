"""ONNX files and OpenVINO IR (`.xml` and `.bin`), one per signature, through `model.export` of Keras.

The signatures are those of a LiteRT file (`keras_recnet.export.litert.signatures`), but for any batch size. Images have
the layout of Keras, `(batch, height, width, 3)`, RGB in 0…255. The file of a RecNet is called `model`, those of an
RCAUNet are called like the signatures. ONNX and OpenVINO need different names for inputs and outputs, so the tensors of
a group's new state start with `next_`.

ONNX files are of the opset that tf2onnx prefers (15), which ONNX Runtime has supported since 2021. OpenVINO may compute
in bfloat16 or float16, unless its `INFERENCE_PRECISION_HINT` is `f32`.
"""

from pathlib import Path

import keras

from keras_recnet.export.litert.signatures import SALIENCY

FILE_NAMES = {SALIENCY: "model"}  # other files are called like their signature
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
NEXT = "next_"


def write(parts: dict[str, keras.Model], folder: Path, *, format: str, about: dict[str, str]) -> None:
    """Write a file per signature.

    Args:
        parts: the signatures, from `with_unique_names`.
        folder: output folder.
        format: `"onnx"` or `"openvino"`.
        about: metadata for the ONNX files, name → text.
    """
    for signature, part in parts.items():
        file = folder / f"{FILE_NAMES.get(signature, signature)}{SUFFIXES[format]}"
        specs = {name: keras.InputSpec("float32", shape=tensor.shape, name=name) for name, tensor in part.input.items()}
        part.export(str(file), format=format, verbose=False, input_signature=[specs])
        if format == "onnx":
            _describe(file, about)


def with_unique_names(parts: dict[str, keras.Model]) -> dict[str, keras.Model]:
    """Return the signatures with `next_` before the name of each output that is also the name of an input."""

    def renamed(part):
        outputs = {f"{NEXT}{name}" if name in part.input else name: tensor for name, tensor in part.output.items()}
        return keras.Model(part.input, outputs)

    return {signature: renamed(part) for signature, part in parts.items()}


def _describe(file, about):
    """Add metadata to an ONNX file, and name the batch size, which tf2onnx calls `unk__` and a number."""
    import onnx

    model = onnx.load(file)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, about)
    onnx.save(model, file)
