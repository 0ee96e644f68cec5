"""Count the floating-point operations of convolutions and matrix products: two per multiplication.

All other layers, such as activations and resizing, take a few percent of the time and an even smaller share of the
operations. The TensorFlow graph or LiteRT file that runs is counted, so the counts reflect all optimizations.
"""

import math
import os
from collections import Counter

from keras_recnet.errors import PresetError


def count_litert(file: str | os.PathLike) -> dict[str, int]:
    """Count the operations of each signature of a LiteRT file.

    Raises:
        PresetError: if the file is not a LiteRT file.
    """
    schema, model = _flatbuffer(file)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    # small codes are in the deprecated field, large codes in the new one
    codes = [max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    counts = {}
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        graph = model.Subgraphs(signature.SubgraphIndex())
        operators = [graph.Operators(number) for number in range(graph.OperatorsLength())]
        counts[signature.SignatureKey().decode()] = sum(
            _count_operator(names[codes[operator.OpcodeIndex()]], operator, graph) for operator in operators
        )
    return counts


def litert_precision(file: str | os.PathLike) -> str:
    """Return `"float16"` or `"int8"` if a LiteRT file has such weights, otherwise `"float32"`.

    Raises:
        PresetError: if the file is not a LiteRT file.
    """
    schema, model = _flatbuffer(file)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    types = Counter(graph.Tensors(index).Type() for graph in graphs for index in range(graph.TensorsLength()))
    # an int8 file may have some layers in float16
    names = {"int8": schema.TensorType.INT8, "float16": schema.TensorType.FLOAT16}
    return next((name for name, number in names.items() if types[number]), "float32")


def litert_signatures(file: str | os.PathLike) -> list[str]:
    """Return the names of the signatures of a LiteRT file."""
    _, model = _flatbuffer(file)
    return [model.SignatureDefs(index).SignatureKey().decode() for index in range(model.SignatureDefsLength())]


def count_function(function, **inputs: tuple) -> int | None:
    """Count the operations of a function of TensorFlow tensors.

    Args:
        function: a function with keyword arguments.
        **inputs: name → `(shape, dtype)` of each argument.

    Returns:
        The number of operations; None if the shape of a tensor is unknown.

    Example:
        >>> count_function(lambda image: model(image, training=False), image=((1, 256, 256, 3), "float32"))
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()}
    traced = tf.function(lambda **tensors: function(**tensors)).get_concrete_function(**specs)
    # inlines inner functions and infers all shapes again from the shapes of the inputs
    graph = convert_variables_to_constants_v2(traced).graph
    try:
        return sum(_count_node(node) for node in graph.get_operations())
    except ValueError:  # an unknown shape
        return None


def _count_operator(name, operator, graph):
    inputs = [_shape(graph, operator.Inputs(index)) for index in range(operator.InputsLength())]
    output = _shape(graph, operator.Outputs(0)) if operator.OutputsLength() else ()
    match name:
        case "CONV_2D":  # kernel: (outputs, height, width, inputs)
            return 2 * math.prod(inputs[1]) * math.prod(output[:-1])
        case "DEPTHWISE_CONV_2D":  # kernel: (1, height, width, outputs)
            return 2 * math.prod(inputs[1][1:3]) * math.prod(output)
        case "TRANSPOSE_CONV":  # inputs: shape of the output, kernel, image
            return 2 * math.prod(inputs[1]) * math.prod(inputs[2][:-1])
        case "FULLY_CONNECTED":  # kernel: (outputs, inputs)
            return 2 * inputs[1][1] * math.prod(output)
        case "BATCH_MATMUL":
            return _product(inputs[0], output)
    return 0


def _count_node(node):
    if node.type not in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMulV2", "Einsum"):
        return 0
    inputs = [tensor.shape.as_list() for tensor in node.inputs]
    output = node.outputs[0].shape.as_list()
    if None in (*output, *(length for shape in inputs for length in shape)):
        raise ValueError(node.name)
    match node.type:
        case "Conv2D":  # kernel: (height, width, inputs, outputs)
            return 2 * math.prod(inputs[1][:3]) * math.prod(output)
        case "DepthwiseConv2dNative":
            return 2 * math.prod(inputs[1][:2]) * math.prod(output)
        case "Conv2DBackpropInput":  # transposed convolution: shape of the output, kernel, image
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
    # left: (…, M, K) or transposed, output: (…, M, N); M and the batch cancel out
    return 2 * math.prod(output) * math.prod(left) // math.prod(output[:-1])


def _shape(graph, index):
    if index < 0:  # an omitted optional input
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
