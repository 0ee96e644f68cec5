"""Floating point operations of a network: those of its convolutions and matrix products, two a multiplication.

What is left out, such as activations and resizing, is some percent of the time and less of the operations. The counts
come from what is run, a TensorFlow graph or a LiteRT file, so that they are those after all simplification.
"""

import math
import os
from collections import Counter

from keras_recnet.errors import PresetError


def of_litert(file: str | os.PathLike) -> dict[str, int]:
    """The operations of each signature of a LiteRT file.

    Raises:
        PresetError: if it is no LiteRT file.
    """
    schema, model = _flatbuffer(file)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    # a small code stands in the older of the two fields, a large one in the newer
    codes = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    counts = {}
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        graph = model.Subgraphs(signature.SubgraphIndex())
        operators = [graph.Operators(number) for number in range(graph.OperatorsLength())]
        counts[signature.SignatureKey().decode()] = sum(
            _of_operator(names[codes[operator.OpcodeIndex()]], operator, graph) for operator in operators
        )
    return counts


def precision_of_litert(file: str | os.PathLike) -> str:
    """`"float16"` if weights of a LiteRT file are stored so, else `"float32"`.

    Raises:
        PresetError: if it is no LiteRT file.
    """
    schema, model = _flatbuffer(file)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    stored = Counter(graph.Tensors(index).Type() for graph in graphs for index in range(graph.TensorsLength()))
    return "float16" if stored[schema.TensorType.FLOAT16] else "float32"


def signatures_of_litert(file: str | os.PathLike) -> list[str]:
    """The names of the signatures of a LiteRT file."""
    _, model = _flatbuffer(file)
    return [model.SignatureDefs(index).SignatureKey().decode() for index in range(model.SignatureDefsLength())]


def of_function(function, **inputs: tuple) -> int | None:
    """The operations of a function of TensorFlow tensors.

    Args:
        function: what is traced; it is given its tensors by name.
        **inputs: name → `(shape, dtype)` of a tensor.

    Returns:
        The operations; None: the graph leaves a shape open.

    Example:
        >>> of_function(lambda image: model(image, training=False), image=((1, 256, 256, 3), "float32"))
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    traced = tf.function(lambda **given: function(**given)).get_concrete_function(**specs)
    # lays the bodies of inner functions into the graph, and infers all shapes anew from those of the inputs
    graph = convert_variables_to_constants_v2(traced).graph
    try:
        return sum(_of_node(node) for node in graph.get_operations())
    except ValueError:  # a shape is not known
        return None


def _of_operator(name, operator, graph):
    inputs = [_shape(graph, operator.Inputs(index)) for index in range(operator.InputsLength())]
    output = _shape(graph, operator.Outputs(0)) if operator.OutputsLength() else ()
    match name:
        case "CONV_2D":  # the kernel is (outputs, height, width, inputs)
            return 2 * math.prod(inputs[1]) * math.prod(output[:-1])
        case "DEPTHWISE_CONV_2D":  # (1, height, width, outputs)
            return 2 * math.prod(inputs[1][1:3]) * math.prod(output)
        case "TRANSPOSE_CONV":  # of the output's shape, the kernel, the input
            return 2 * math.prod(inputs[1]) * math.prod(inputs[2][:-1])
        case "FULLY_CONNECTED":  # (outputs, inputs)
            return 2 * inputs[1][1] * math.prod(output)
        case "BATCH_MATMUL":
            return _product(inputs[0], output)
    return 0


def _of_node(node):
    if node.type not in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMulV2", "Einsum"):
        return 0
    inputs = [tensor.shape.as_list() for tensor in node.inputs]
    output = node.outputs[0].shape.as_list()
    if None in (*output, *(length for shape in inputs for length in shape)):
        raise ValueError(node.name)
    match node.type:
        case "Conv2D":  # the kernel is (height, width, inputs, outputs)
            return 2 * math.prod(inputs[1][:3]) * math.prod(output)
        case "DepthwiseConv2dNative":
            return 2 * math.prod(inputs[1][:2]) * math.prod(output)
        case "Conv2DBackpropInput":  # of the output's shape, the kernel, the input: a transposed convolution
            return 2 * math.prod(inputs[1][:2]) * inputs[1][2] * math.prod(inputs[2])
        case "Einsum":
            letters = node.get_attr("equation").decode().partition("->")[0].split(",")
            lengths = {
                letter: length
                for term, shape in zip(letters, inputs, strict=True)
                for letter, length in zip(term, shape, strict=True)
            }
            return 2 * math.prod(lengths.values())
    return _product(inputs[0], output)


def _product(left, output):
    # left is (…, M, K) or transposed, the output (…, M, N): M times the batch cancels
    return 2 * math.prod(output) * math.prod(left) // math.prod(output[:-1])


def _shape(graph, index):
    if index < 0:  # an input that is left out
        return ()
    shape = graph.Tensors(index).ShapeAsNumpy()
    return () if isinstance(shape, int) else tuple(shape.tolist())


def _flatbuffer(file):
    from ai_edge_litert import schema_py_generated as schema

    with open(file, "rb") as stream:
        data = stream.read()
    if data[4:8] != b"TFL3":
        raise PresetError(f"{file}: not a LiteRT file.")
    return schema, schema.Model.GetRootAs(data, 0)
