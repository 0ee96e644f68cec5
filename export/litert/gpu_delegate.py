"""Static check of a LiteRT file against the rules of LiteRT's GPU delegate.

`tf.lite.experimental.Analyzer.analyze(gpu_compatibility=True)` did this until TensorFlow 2.17. Since 2.18 it
checks nothing and reports every file as compatible, even with `TOPK_V2` (tensorflow issue 77042). This module contains
the published rules of the delegate for the operations of our networks; any other operation counts as unsupported. Where
the rules differ between versions, the stricter one is used. Some rules are not from the Analyzer: no tensor of more
than four dimensions, and no binary operation that broadcasts both operands, broadcasts an operand to the size of a
constant, or has an operand with one dimension that is computed at run time (the delegate takes it for a batch).
"""

import dataclasses
import math
import os
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from keras_recnet.export.litert import flatbuffer

_FLOAT32, _FLOAT16 = schema.TensorType.FLOAT32, schema.TensorType.FLOAT16
_INT32, _UINT8, _INT8 = schema.TensorType.INT32, schema.TensorType.UINT8, schema.TensorType.INT8


def gpu_incompatible(file: str | os.PathLike) -> list[str]:
    """List the operations of a LiteRT file that the GPU delegate does not support.

    An empty list means that the file follows the rules of the delegate; the GPU driver of a phone may still reject it.

    Args:
        file: the `.tflite` file.

    Returns:
        One line per unsupported operation, in file order, starting with the signature, such as
        `"step: MUL [1, 14, 14, 1], [1, 192]: only one operand may be broadcast"`.

    Raises:
        LiteRTFileError: if it is not a LiteRT file.

    Example:
        >>> gpu_incompatible("recnet_lite0.tflite")
        []
    """
    model = flatbuffer.unpack(Path(file).read_bytes(), file)
    signatures = {entry.subgraphIndex: entry.signatureKey.decode() for entry in model.signatureDefs or ()}
    problems = []
    for index, subgraph in enumerate(model.subgraphs):
        for operator in subgraph.operators:
            node = _node(model, subgraph, operator)
            if problem := _check(node):
                shapes = ", ".join(str(tensor.shape) for tensor in node.inputs)
                problems.append(f"{signatures.get(index, f'subgraph {index}')}: {node.name} {shapes}: {problem}")
    return problems


@dataclasses.dataclass
class _Tensor:
    shape: list[int]
    type: int
    constant: bool


@dataclasses.dataclass
class _Node:
    name: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    options: object

    @property
    def runtime_inputs(self):
        """Number of inputs that are computed at run time, including float16 weights, which are dequantized."""
        return sum(not tensor.constant for tensor in self.inputs)


def _node(model, subgraph, operator):
    def tensors(indices):
        for index in indices if indices is not None else ():
            if index >= 0:
                tensor = subgraph.tensors[index]
                shape = [] if tensor.shape is None else [int(length) for length in tensor.shape]
                yield _Tensor(shape, tensor.type, model.buffers[tensor.buffer].data is not None)

    name = flatbuffer.operation_name(model, operator)
    return _Node(name, list(tensors(operator.inputs)), list(tensors(operator.outputs)), operator.builtinOptions)


def _check(node):
    if node.name not in _CHECKS:
        return "not supported by the delegate or not known to this check"
    for tensor in (*node.inputs, *node.outputs):
        if len(tensor.shape) > 4:
            return "a tensor with more than 4 dimensions"
        # The delegate computes int8 operations in floating point.
        if tensor.type not in (_FLOAT32, _FLOAT16, _INT8) and not tensor.constant and node.name != "DEQUANTIZE":
            return "a tensor that is neither floating-point nor int8"
    return _CHECKS[node.name](node)


def _check_binary(node):
    if len(node.inputs) != 2:
        return "it must have two inputs"
    if not node.runtime_inputs:
        return "one operand must be computed at run time"
    if any(len(tensor.shape) == 1 and not tensor.constant for tensor in node.inputs):
        return "an operand with one dimension must be constant"
    for tensor, other in (node.inputs, node.inputs[::-1]):
        if tensor.constant and math.prod(tensor.shape) > math.prod(other.shape):
            return "an operand may not be broadcast to the size of a constant"
    first, second = (tensor.shape for tensor in node.inputs)
    if len(first) == len(second):
        broadcast_first = any(a < b for a, b in zip(first, second, strict=True))
        broadcast_second = any(a > b for a, b in zip(first, second, strict=True))
        return "only one operand may be broadcast" if broadcast_first and broadcast_second else None
    longer, shorter = sorted((first, second), key=len, reverse=True)
    if len(shorter) <= 1:
        # a scalar, or a vector of one value per channel
        return None if math.prod(shorter) in (1, longer[-1]) else "only one operand may be broadcast"
    broadcastable = len(longer) == 4 and (
        (len(shorter) == 3 and longer[0] == 1)
        or (len(shorter) == 2 and shorter == [1, 1] and longer[0] == 1)
        or (len(shorter) == 2 and shorter == [longer[0], longer[3]])
    )
    return None if broadcastable else "these shapes do not broadcast"


def _check_convolution(node):
    if not 1 <= node.runtime_inputs <= 2:
        return "one or two of image, kernel and bias must be computed at run time"
    image = node.inputs[2 if node.name == "TRANSPOSE_CONV" else 0]
    if len(image.shape) != 4 or len(node.inputs[1].shape) != 4:
        return "image and kernel must have 4 dimensions"
    if node.name == "DEPTHWISE_CONV_2D" and node.options.depthMultiplier != 1 and image.shape[-1] != 1:
        return "a depth multiplier other than 1"
    return None


def _check_fully_connected(node):
    if node.options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        return "shuffled weights"
    if node.inputs[0].constant or node.runtime_inputs > 2:
        return "the input must not be constant, and kernel or bias must be"
    if node.options.keepNumDims and len(node.inputs[0].shape) != len(node.outputs[0].shape):
        return "input and output must have the same number of dimensions"
    return None


def _check_matmul(node):
    return None if len(node.inputs) == 2 else "it must have two inputs"


def _check_one_runtime_input(node):
    return None if node.runtime_inputs == 1 else "one input must be computed at run time"


def _check_unary(node):
    return None if node.runtime_inputs == len(node.inputs) == 1 else "it must have one input"


def _check_reduction(node):
    axes = node.inputs[1]
    return None if node.runtime_inputs == 1 and axes.constant and axes.type == _INT32 else "its axes must be constant"


def _check_padding(node):
    valid = node.inputs[1].shape in ([3, 2], [4, 2])
    return _check_one_runtime_input(node) or (None if valid else "it must pad 3 or 4 dimensions")


def _check_softmax(node):
    return None if node.options.beta == 1 else "a beta other than 1"


def _check_resize(node):
    both = node.options.alignCorners and node.options.halfPixelCenters
    return _check_one_runtime_input(node) or ("align_corners and half_pixel_centers are both set" if both else None)


def _check_dequantize(node):
    valid = len(node.inputs) == 1 and node.inputs[0].type in (_FLOAT16, _UINT8, _INT8)
    return None if valid else "its input must be float16 or 8-bit"


_CHECKS = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE"), _check_binary),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"), _check_convolution),
    "FULLY_CONNECTED": _check_fully_connected,
    "BATCH_MATMUL": _check_matmul,
    **dict.fromkeys(("RESHAPE", "TRANSPOSE", "TILE", "MAX_POOL_2D", "AVERAGE_POOL_2D"), _check_one_runtime_input),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _check_reduction),
    **dict.fromkeys(("PAD", "PADV2"), _check_padding),
    "SOFTMAX": _check_softmax,
    "RESIZE_BILINEAR": _check_resize,
    "DEQUANTIZE": _check_dequantize,
    "QUANTIZE": _check_one_runtime_input,
    **dict.fromkeys(("CONCATENATION", "SPLIT", "SPLIT_V", "RELU", "RELU6"), lambda node: None),
    **dict.fromkeys(("LOGISTIC", "TANH", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "ABS", "NEG"), _check_unary),
}
