"""Expose the keys of RecNet's reciprocal attention as outputs of a LiteRT file, so that a page can show attention."""

import re

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_recnet.export.litert import flatbuffer

FOREGROUND, BACKGROUND = "foreground_keys", "background_keys"
STRIDE = 8  # of the attention, see `keras_recnet.models.recnet.STRIDE`


def expose_keys(content: bytes) -> tuple[bytes, dict | None]:
    """Add the two keys of the attention of foreground positions to the outputs of the signature with an `image`.

    The network already computes them: the weights of all background positions for foreground position j are
    `softmax(scale · background_keys @ foreground_keys[j])` (RecNet paper, Eq. 1 and 3). Two outputs of
    `(1, positions, channels)` are smaller than one of `(1, positions, positions)`, and a single row is fast to compute.

    Args:
        content: contents of a LiteRT file of any precision; it may already have these outputs.

    Returns:
        The contents of the edited file; and `{"foreground": name, "background": name, "scale": scale, "size": [height,
        width]}`, where positions are in row-major order. Without such attention, `content` itself and None.
    """
    model = flatbuffer.unpack(content)
    for signature in model.signatureDefs:
        subgraph = model.subgraphs[signature.subgraphIndex]
        (image, *others) = signature.inputs
        if others or image.name.decode() != flatbuffer.IMAGE:
            continue
        graph = _Graph(model, subgraph)
        for operator in subgraph.operators:
            if graph.name(operator) == "SOFTMAX" and (found := _keys(graph, operator)):
                foreground, background, scale = found
                height, width = (int(side) // STRIDE for side in subgraph.tensors[image.tensorIndex].shape[1:3])
                names = {"foreground": FOREGROUND, "background": BACKGROUND}
                described = {**names, "scale": scale, "size": [height, width]}
                if FOREGROUND.encode() in (output.name for output in signature.outputs):
                    return content, described
                for name, index in ((FOREGROUND, foreground), (BACKGROUND, background)):
                    signature.outputs.append(schema.TensorMapT(name=name.encode(), tensorIndex=index))
                subgraph.outputs = np.append(subgraph.outputs, [foreground, background]).astype("int32")
                return flatbuffer.pack(model), described
    return content, None


def _keys(graph, softmax):
    """Return the tensors of the foreground and the background keys, and the scale of their product; or None.

    None if this is not a softmax over the background positions of each foreground position.
    """
    operator, scale = graph.producer(softmax.inputs[0]), 1.0
    while operator is not None and graph.name(operator) in ("MUL", "DIV", "RESHAPE"):
        if graph.name(operator) != "RESHAPE":
            constant = graph.constant(operator.inputs[1])
            if constant is None:
                return None
            scale *= constant if graph.name(operator) == "MUL" else 1 / constant
        operator = graph.producer(operator.inputs[0])
    if operator is None or graph.name(operator) != "BATCH_MATMUL" or not operator.builtinOptions.adjY:
        return None
    targets, sources = operator.inputs
    if not graph.comes_from(targets, "foreground_key") or not graph.comes_from(sources, "background_key"):
        return None
    return int(targets), int(sources), float(scale)


class _Graph:
    """The operators of a subgraph by the tensors that they produce."""

    def __init__(self, model, subgraph):
        self._model, self._subgraph = model, subgraph
        self._producers = {index: operator for operator in subgraph.operators for index in operator.outputs}

    def name(self, operator):
        return flatbuffer.operation_name(self._model, operator)

    def producer(self, index):
        return self._producers.get(index)

    def constant(self, index):
        """The value of a float32 constant with one element, or None."""
        data = self._model.buffers[self._subgraph.tensors[index].buffer].data
        return None if data is None or len(data) != 4 else float(np.asarray(data, "uint8").view("<f4")[0])

    def comes_from(self, index, layer):
        """Return whether a tensor is the result of a layer, up to a scale, a type and a shape."""
        while index is not None:
            # the converter numbers the calls of a layer: foreground_key_1
            if re.search(rf"/{layer}(_\d+)?/", self._subgraph.tensors[index].name.decode()):
                return True
            operator = self.producer(index)
            if operator is None or self.name(operator) not in ("MUL", "RESHAPE", "QUANTIZE", "DEQUANTIZE", "TRANSPOSE"):
                return False
            index = operator.inputs[0]
        return False
