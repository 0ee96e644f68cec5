"""Whether LiteRT's GPU delegate could run all of a file.

`tf.lite.experimental.Analyzer.analyze(gpu_compatibility=True)` answered this until TensorFlow 2.17. Since 2.18 its
check is empty, and it calls every file compatible, one with a `TOPK_V2` in it too (tensorflow issue 77042). So the
delegate's published rules stand here, for the operations that our networks consist of; an operation that is not in the
table counts as one that it lacks. Where the rules differ from version to version, the narrower one is taken, and two
are added that the Analyzer left out: no tensor of more than four dimensions, and no sum whose two sides are both
enlarged.
"""

import dataclasses
import math
import os
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from keras_recnet.export.litert import flatbuffer

_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_FLOAT32, _FLOAT16 = schema.TensorType.FLOAT32, schema.TensorType.FLOAT16
_INT32, _UINT8, _INT8 = schema.TensorType.INT32, schema.TensorType.UINT8, schema.TensorType.INT8


def gpu_incompatible(file: str | os.PathLike) -> list[str]:
    """The operations of a LiteRT file that the GPU delegate lacks, one line each, in the order of the file.

    An empty list means that the delegate's own rules refuse nothing; a phone's driver may still do so.

    Args:
        file: the `.tflite` file.

    Returns:
        Lines such as `"step: MUL [1, 14, 14, 1], [1, 192]: only one side may be enlarged"`, with the signature first.

    Raises:
        LiteRTFileError: if it is no LiteRT file.

    Example:
        >>> gpu_incompatible("recnet_lite0.tflite")
        []
    """
    model = flatbuffer.unpacked(Path(file).read_bytes(), file)
    signatures = {entry.subgraphIndex: entry.signatureKey.decode() for entry in model.signatureDefs or ()}
    found = []
    for index, subgraph in enumerate(model.subgraphs):
        for operator in subgraph.operators:
            node = _node(model, subgraph, operator)
            if problem := _problem(node):
                shapes = ", ".join(str(tensor.shape) for tensor in node.inputs)
                found.append(f"{signatures.get(index, f'subgraph {index}')}: {node.name} {shapes}: {problem}")
    return found


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
    def runtime(self):
        """How many inputs are computed at run time; stored float16 weights, which an operation enlarges, count too."""
        return sum(not tensor.constant for tensor in self.inputs)


def _node(model, subgraph, operator):
    def tensors(indices):
        for index in indices if indices is not None else ():
            if index >= 0:
                tensor = subgraph.tensors[index]
                shape = [] if tensor.shape is None else [int(length) for length in tensor.shape]
                yield _Tensor(shape, tensor.type, model.buffers[tensor.buffer].data is not None)

    name = _NAMES[flatbuffer.operation_of(model, operator)]
    if name == "CUSTOM":  # Flex operations too
        name = model.operatorCodes[operator.opcodeIndex].customCode.decode()
    return _Node(name, list(tensors(operator.inputs)), list(tensors(operator.outputs)), operator.builtinOptions)


def _problem(node):
    if node.name not in _RULES:
        return "the delegate lacks it, or this check does not know it"
    for tensor in (*node.inputs, *node.outputs):
        if len(tensor.shape) > 4:
            return "a tensor of more than 4 dimensions"
        if tensor.type not in (_FLOAT32, _FLOAT16) and not tensor.constant and node.name != "DEQUANTIZE":
            return "a tensor that is not of floats"
    return _RULES[node.name](node)


def _pair(node):
    if len(node.inputs) != 2:
        return "it takes two tensors"
    if not node.runtime:
        return "one side must be computed at run time"
    first, second = (tensor.shape for tensor in node.inputs)
    if len(first) == len(second):
        smaller = any(a < b for a, b in zip(first, second, strict=True))
        larger = any(a > b for a, b in zip(first, second, strict=True))
        return "only one side may be enlarged" if smaller and larger else None
    longer, shorter = sorted((first, second), key=len, reverse=True)
    if len(shorter) <= 1:
        # a number, or one a channel
        return None if math.prod(shorter) in (1, longer[-1]) else "only one side may be enlarged"
    fits = len(longer) == 4 and (
        (len(shorter) == 3 and longer[0] == 1)
        or (len(shorter) == 2 and shorter == [1, 1] and longer[0] == 1)
        or (len(shorter) == 2 and shorter == [longer[0], longer[3]])
    )
    return None if fits else "these shapes do not broadcast"


def _convolution(node):
    if not 1 <= node.runtime <= 2:
        return "of image, kernel and bias at most two may be computed at run time"
    image = node.inputs[2 if node.name == "TRANSPOSE_CONV" else 0]
    if len(image.shape) != 4 or len(node.inputs[1].shape) != 4:
        return "image and kernel must have 4 dimensions"
    if node.name == "DEPTHWISE_CONV_2D" and node.options.depthMultiplier != 1 and image.shape[-1] != 1:
        return "a multiplier of the channels"
    return None


def _fully_connected(node):
    if node.options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        return "shuffled weights"
    if node.inputs[0].constant or node.runtime > 2:
        return "of input, kernel and bias at most two may be computed at run time, and the input must be"
    if node.options.keepNumDims and len(node.inputs[0].shape) != len(node.outputs[0].shape):
        return "input and output must have the same number of dimensions"
    return None


def _matmul(node):
    return None if len(node.inputs) == 2 else "it takes two tensors"


def _one_runtime(node):
    return None if node.runtime == 1 else "one input must be computed at run time"


def _one(node):
    return None if node.runtime == len(node.inputs) == 1 else "it takes one tensor"


def _reduction(node):
    axes = node.inputs[1]
    return None if node.runtime == 1 and axes.constant and axes.type == _INT32 else "its axes must be constants"


def _padding(node):
    return _one_runtime(node) or (None if node.inputs[1].shape in ([3, 2], [4, 2]) else "it pads 3 or 4 dimensions")


def _softmax(node):
    return None if node.options.beta == 1 else "a beta that is not 1"


def _resize(node):
    both = node.options.alignCorners and node.options.halfPixelCenters
    return _one_runtime(node) or ("corners and half pixels exclude each other" if both else None)


def _dequantize(node):
    return None if len(node.inputs) == 1 and node.inputs[0].type in (_FLOAT16, _UINT8, _INT8) else "another type"


_RULES = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE"), _pair),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"), _convolution),
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    **dict.fromkeys(("RESHAPE", "TRANSPOSE", "TILE", "MAX_POOL_2D", "AVERAGE_POOL_2D"), _one_runtime),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduction),
    **dict.fromkeys(("PAD", "PADV2"), _padding),
    "SOFTMAX": _softmax,
    "RESIZE_BILINEAR": _resize,
    "DEQUANTIZE": _dequantize,
    **dict.fromkeys(("CONCATENATION", "SPLIT", "SPLIT_V", "RELU", "RELU6"), lambda node: None),
    **dict.fromkeys(("LOGISTIC", "TANH", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "ABS", "NEG"), _one),
}
