"""Edits of a LiteRT file after conversion, and its metadata.

The edits correct four things about the files of TensorFlow's converter: images can be uint8 only if the whole network
is quantized; biases are stored in float16 too, which saves little and makes static checks for GPUs mistake them for
tensors computed at run time; the file contains a fingerprint of the time of conversion; and the file does not say what
its tensors mean.
"""

import json
import os
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_recnet.errors import RecNetError

INPUT_DTYPES = ("float32", "uint8")
METADATA = "keras_recnet"  # name of the metadata entry
IDENTIFIER = b"TFL3"
IMAGE = "image"  # name of the inputs that may be uint8
ALIGNMENT = 16  # bytes, for constants, as the schema requires

_OPERATIONS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_TYPES = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}


class LiteRTFileError(RecNetError):
    """The file is not a LiteRT file, or this library did not write it."""


def finish(content: bytes, *, input_dtype: str = "float32", metadata: dict | None = None) -> bytes:
    """Apply all edits to a file from the converter.

    Args:
        content: contents of the file.
        input_dtype: `"float32"`, or `"uint8"` to turn every input `image` into uint8 with scale 1 and zero point 0: the
            values are still RGB in 0…255, and the first operation dequantizes them. (The GPU delegate has no cast from
            uint8.)
        metadata: the dict that `read_metadata` will return; None: no metadata.

    Returns:
        The contents of the edited file, the same for the same arguments.
    """
    if input_dtype not in INPUT_DTYPES:
        raise ValueError(f"`input_dtype` must be one of {INPUT_DTYPES}. Received: input_dtype={input_dtype!r}")
    model = unpack(content)
    _store_vectors_as_float32(model)
    if input_dtype == "uint8":
        for signature in model.signatureDefs:
            for entry in signature.inputs:
                if entry.name.decode() == IMAGE:
                    _make_uint8(model, signature, entry)
    replaced = ("CONVERSION_METADATA",) if metadata is None else ("CONVERSION_METADATA", METADATA)
    model.metadata = [entry for entry in model.metadata or [] if entry.name.decode() not in replaced]
    if metadata is not None:
        text = json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()
        model.metadata.append(schema.MetadataT(METADATA, _new_buffer(model, text)))
    _drop_buffers(model)
    return pack(model)


def read_metadata(file: str | os.PathLike) -> dict:
    """Read the metadata of a LiteRT file from this library, without Keras and TensorFlow.

    Args:
        file: the `.tflite` file.

    Returns:
        A dict with `"keras_recnet"`, the version that wrote the file; `"model"`, the class; `"preprocessing"`;
        `"licence"`, of the weights; and `"signatures"`: name → `"inputs"` and `"outputs"` → name → `"dtype"`,
        `"shape"` and `"meaning"`.

    Raises:
        LiteRTFileError: if the file is not a LiteRT file or has no such metadata.
    """
    content = Path(file).read_bytes()
    _check(content, file)
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name().decode() == METADATA:
            return json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    raise LiteRTFileError(
        f"{file}: no metadata of keras_recnet. Convert the model again with `keras_recnet.export.convert`."
    )


def unpack(content: bytes, name: str | os.PathLike = "The converter's file") -> "schema.ModelT":
    """Parse a LiteRT file into objects.

    Args:
        content: contents of the file.
        name: name of the file for error messages.

    Raises:
        LiteRTFileError: if it is not a LiteRT file.
    """
    _check(content, name)
    model = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset > 1:  # ai-edge-quantizer stores constants after the objects; 0 and 1 mean that there is none
            buffer.data = np.frombuffer(content, "uint8", buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: "schema.ModelT") -> bytes:
    """Return the contents of the file of a model from `unpack`."""
    model.buffers = [_Aligned(buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def operation_name(model: "schema.ModelT", operator: "schema.OperatorT") -> str:
    """Return the name of an operator, such as `"CONV_2D"`; for custom and Flex operations, their own name."""
    name = _OPERATIONS[operation_code(model, operator)]
    return model.operatorCodes[operator.opcodeIndex].customCode.decode() if name == "CUSTOM" else name


def operation_code(model: "schema.ModelT", operator: "schema.OperatorT") -> int:
    """Return the number of an operator in `schema.BuiltinOperator`."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def count_operations(content: bytes) -> dict[str, dict[str, dict[str, int]]]:
    """Count the operations of each signature by the type of their result.

    Returns:
        signature → type, such as `"int8"` → name of the operation → number. Conversions between types are left out.
    """
    model, counts = unpack(content), {}
    for signature in model.signatureDefs:
        subgraph = model.subgraphs[signature.subgraphIndex]
        of_type = counts.setdefault(signature.signatureKey.decode(), {})
        for operator in subgraph.operators:
            name = operation_name(model, operator)
            if name not in ("QUANTIZE", "DEQUANTIZE"):
                type_name = _TYPES[subgraph.tensors[operator.outputs[0]].type].lower()
                names = of_type.setdefault(type_name, {})
                names[name] = names.get(name, 0) + 1
    return counts


def _check(content, name):
    if content[4:8] != IDENTIFIER:
        raise LiteRTFileError(f"{name}: not a LiteRT file. Received: first bytes {content[:8]!r}")


def _store_vectors_as_float32(model):
    """Turn vectors and scalars that are stored as float16 and dequantized at run time into float32 constants."""
    for subgraph in model.subgraphs:
        replacements, kept = {}, []
        for operator in subgraph.operators:
            tensor = subgraph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            if (
                operation_code(model, operator) == schema.BuiltinOperator.DEQUANTIZE
                and tensor.type == schema.TensorType.FLOAT16
                and model.buffers[tensor.buffer].data is not None
                and (tensor.shape is None or len(tensor.shape) <= 1)
            ):
                replacements[operator.outputs[0]] = operator.inputs[0]
            else:
                kept.append(operator)
        subgraph.operators = kept
        for index in set(replacements.values()):  # a constant may be dequantized several times
            tensor = subgraph.tensors[index]
            values = np.asarray(model.buffers[tensor.buffer].data, "uint8").view("<f2").astype("<f4")
            tensor.type, tensor.buffer = schema.TensorType.FLOAT32, _new_buffer(model, values.tobytes())
        _rename_tensors(subgraph, lambda index, new=replacements: new.get(index, index))
        _drop_tensors(model, subgraph, set(replacements))


def _make_uint8(model, signature, entry):
    subgraph = model.subgraphs[signature.subgraphIndex]
    old = entry.tensorIndex
    floats = subgraph.tensors[old]
    if floats.type == schema.TensorType.UINT8:
        return
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
    """Return the index of DEQUANTIZE in the file's operator codes, and add it to them if it is missing."""
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
    """Remove unused constants, but keep the first buffer: it is empty and belongs to all non-constant tensors."""
    users = [*(tensor for subgraph in model.subgraphs for tensor in subgraph.tensors), *model.metadata]
    kept = sorted({0, *(user.buffer for user in users)})
    places = {index: place for place, index in enumerate(kept)}
    model.buffers = [model.buffers[index] for index in kept]
    for user in users:
        user.buffer = places[user.buffer]


class _Aligned(schema.BufferT):
    """A constant, aligned as the schema requires, which the generated class does not guarantee."""

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
