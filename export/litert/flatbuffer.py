"""The last touches to a LiteRT file from TensorFlow's converter, and what it says about itself.

The converter leaves four things open: it takes no uint8 images without quantizing the whole network; it stores biases
as float16 too, which saves nothing to speak of and which the static checks for GPUs take for tensors computed at run
time; it writes a fingerprint of the moment of conversion; and nothing in the file tells what the tensors mean.
"""

import json
import os
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_recnet.errors import RecNetError
from keras_recnet.export.metadata import INPUT_DTYPES

METADATA = "keras_recnet"  # the name of our entry among the file's metadata
IDENTIFIER = b"TFL3"
IMAGE = "image"  # the signatures' input that may be uint8
ALIGNMENT = 16  # of constants, in bytes, as the schema asks


class LiteRTFileError(RecNetError):
    """A file that is no LiteRT file, or not one of this library."""


def finish(content: bytes, *, input_dtype: str = "float32", about: dict | None = None) -> bytes:
    """The converter's file with what it leaves open.

    Args:
        content: the file.
        input_dtype: `"float32"`, or `"uint8"`: every input `image` becomes uint8 with the scale 1 and the zero point 0,
            so that its values are what they were, RGB in 0…255, and its first operation makes floats of it. (A cast
            would do the same, but the GPU delegate has none of uint8.)
        about: what `read_metadata` shall give back; None: nothing.

    Returns:
        The contents of the finished file: the same for the same arguments.
    """
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    model = unpacked(content)
    _plain_vectors(model)
    if input_dtype == "uint8":
        for signature in model.signatureDefs:
            for entry in signature.inputs:
                if entry.name.decode() == IMAGE:
                    _take_uint8(model, signature, entry)
    replaced = ("CONVERSION_METADATA",) if about is None else ("CONVERSION_METADATA", METADATA)
    model.metadata = [entry for entry in model.metadata or [] if entry.name.decode() not in replaced]
    if about is not None:
        text = json.dumps(about, ensure_ascii=False, sort_keys=True).encode()
        model.metadata.append(schema.MetadataT(METADATA, _new_buffer(model, text)))
    _drop_buffers(model)
    return _packed(model)


def read_metadata(file: str | os.PathLike) -> dict:
    """What a LiteRT file of this library says about itself; needs neither Keras nor TensorFlow.

    Args:
        file: the `.tflite` file.

    Returns:
        `"keras_recnet"`, the version that wrote it; `"model"`, the class; `"preprocessing"`; `"licence"`, of the
        weights; and `"signatures"`: name → `"inputs"` and `"outputs"` → name → `"dtype"`, `"shape"` and `"meaning"`.

    Raises:
        LiteRTFileError: if it is no LiteRT file, or holds no such entry.
    """
    content = Path(file).read_bytes()
    _check(content, file)
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name().decode() == METADATA:
            return json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    raise LiteRTFileError(
        f"{file}: says nothing about itself; `keras_recnet.export.convert` of this version writes files that do."
    )


def unpacked(content: bytes, name: str | os.PathLike = "The converter's file") -> "schema.ModelT":
    """The objects that a LiteRT file consists of.

    Args:
        content: the file.
        name: what an error calls it.

    Raises:
        LiteRTFileError: if it is no LiteRT file.
    """
    _check(content, name)
    return schema.ModelT.InitFromPackedBuf(content)


def operation_of(model: "schema.ModelT", operator: "schema.OperatorT") -> int:
    """The number of an operator's kind in `schema.BuiltinOperator`."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _check(content, name):
    if content[4:8] != IDENTIFIER:
        raise LiteRTFileError(f"{name}: not a LiteRT file. Received: contents that begin with {content[:8]!r}")


def _plain_vectors(model):
    """Makes vectors and scalars, stored as float16 and enlarged at run time, plain float32 constants."""
    for subgraph in model.subgraphs:
        instead, kept = {}, []
        for operator in subgraph.operators:
            tensor = subgraph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            if (
                operation_of(model, operator) == schema.BuiltinOperator.DEQUANTIZE
                and tensor.type == schema.TensorType.FLOAT16
                and model.buffers[tensor.buffer].data is not None
                and (tensor.shape is None or len(tensor.shape) <= 1)
            ):
                values = np.asarray(model.buffers[tensor.buffer].data, "uint8").view("<f2").astype("<f4")
                tensor.type, tensor.buffer = schema.TensorType.FLOAT32, _new_buffer(model, values.tobytes())
                instead[operator.outputs[0]] = operator.inputs[0]
            else:
                kept.append(operator)
        subgraph.operators = kept
        _rename_tensors(subgraph, lambda index, instead=instead: instead.get(index, index))
        _drop_tensors(model, subgraph, set(instead))


def _take_uint8(model, signature, entry):
    subgraph = model.subgraphs[signature.subgraphIndex]
    old = entry.tensorIndex
    floats = subgraph.tensors[old]
    image = schema.TensorT(
        shape=floats.shape,
        shapeSignature=floats.shapeSignature,
        hasRank=floats.hasRank,
        type=schema.TensorType.UINT8,
        buffer=0,
        name=floats.name,
        quantization=schema.QuantizationParametersT(
            scale=np.ones(1, "float32"), zeroPoint=np.zeros(1, "int64"), quantizedDimension=0
        ),
    )
    floats.name = floats.name + b"_float"
    new = len(subgraph.tensors)
    subgraph.tensors.append(image)
    dequantize = schema.OperatorT(
        opcodeIndex=_dequantize(model), inputs=np.array([new], "int32"), outputs=np.array([old], "int32")
    )
    subgraph.operators.insert(0, dequantize)
    subgraph.inputs = np.array([new if index == old else index for index in subgraph.inputs], "int32")
    entry.tensorIndex = new


def _dequantize(model):
    """The index of the operation among those that the file lists, where it is added if missing."""
    kind = schema.BuiltinOperator.DEQUANTIZE
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=kind, builtinCode=kind, version=1))
    return len(model.operatorCodes) - 1


def _new_buffer(model, data):
    model.buffers.append(schema.BufferT(np.frombuffer(data, "uint8")))
    return len(model.buffers) - 1


def _rename_tensors(subgraph, new):
    def renamed(indices):
        return (
            None if indices is None else np.array([new(index) if index >= 0 else index for index in indices], "int32")
        )

    subgraph.inputs, subgraph.outputs = renamed(subgraph.inputs), renamed(subgraph.outputs)
    for operator in subgraph.operators:
        operator.inputs, operator.outputs = renamed(operator.inputs), renamed(operator.outputs)


def _drop_tensors(model, subgraph, dropped):
    kept = [index for index in range(len(subgraph.tensors)) if index not in dropped]
    places = {index: place for place, index in enumerate(kept)}
    subgraph.tensors = [subgraph.tensors[index] for index in kept]
    _rename_tensors(subgraph, places.__getitem__)
    for signature in model.signatureDefs:
        if model.subgraphs[signature.subgraphIndex] is subgraph:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = places[entry.tensorIndex]


def _drop_buffers(model):
    """Drops constants that nothing uses; the first buffer is the empty one of all that is no constant."""
    users = [*(tensor for subgraph in model.subgraphs for tensor in subgraph.tensors), *model.metadata]
    kept = sorted({0, *(user.buffer for user in users)})
    places = {index: place for place, index in enumerate(kept)}
    model.buffers = [model.buffers[index] for index in kept]
    for user in users:
        user.buffer = places[user.buffer]


class _Aligned(schema.BufferT):
    """A constant that begins where a processor likes to read it; the generated class leaves that to chance."""

    def Pack(self, builder):
        data = None
        if self.data is not None:
            content = np.asarray(self.data, "uint8").tobytes()
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head = builder.Head() - len(content)
            builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _packed(model):
    model.buffers = [_Aligned(buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
