"""Tensors in JSON as TF Serving reads and writes them (util/json_tensor.cc)."""

import base64
import binascii
import json

import numpy as np
import tensorflow as tf
from errors import StatusError


def read(body, signature_of):
    """Parse the body of a request: name of the signature, name → array, and whether the answer is in rows."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise _invalid("JSON Value: Is not object")
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid("JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    dtypes = {key: tf.as_dtype(info.dtype) for key, info in signature_of(name).inputs.items()}
    if ("instances" in request) == ("inputs" in request):
        raise _invalid(
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "instances" in request:
        return name, _parse_rows(request["instances"], dtypes), True
    return name, _parse_columns(request["inputs"], dtypes), False


def write(outputs, in_rows):
    """Return the body of an answer."""
    values = {name: _to_json(array, name.endswith("_bytes")) for name, array in outputs.items()}
    if not in_rows:
        return {"outputs": values if len(values) > 1 else next(iter(values.values()))}
    if len({len(value) for value in values.values()}) > 1:
        raise _invalid("Tensors have inconsistent batch sizes")
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    rows = zip(*values.values(), strict=True)
    return {"predictions": [dict(zip(values, row, strict=True)) for row in rows]}


def _parse_rows(rows, dtypes):
    if not isinstance(rows, list):
        raise _invalid("JSON Value: Expecting 'instances' to be an list/array")
    if not rows:
        raise _invalid("JSON Value: No values in 'instances' array")
    if not any(_is_object(row) for row in rows):
        if len(dtypes) > 1:
            raise _invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required"
            )
        rows = [{next(iter(dtypes)): row} for row in rows]
    columns = {name: [] for name in dtypes}
    for place, row in enumerate(rows):
        if not _is_object(row) or set(row) != set(dtypes):
            raise _invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object keys must be equal to: "
                f"{','.join(sorted(dtypes))}"
            )
        for name, value in row.items():
            array = _array(value, dtypes[name])
            if columns[name] and array.shape != columns[name][0].shape:
                raise _invalid(
                    f"Failed to process element: {place} key: {name} of 'instances' list. Error: Expecting shape "
                    f"{list(columns[name][0].shape)} but got: {list(array.shape)}"
                )
            columns[name].append(array)
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _parse_columns(value, dtypes):
    if not _is_object(value):
        if len(dtypes) > 1:
            raise _invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required")
        value = {next(iter(dtypes)): value}
    if missing := sorted(set(dtypes) - set(value)):
        raise _invalid(f"Missing named input: {missing[0]} in 'inputs' object.")
    return {name: _array(value[name], dtype) for name, dtype in dtypes.items()}


def _array(value, dtype):
    """Parse an array; the first element of each level determines its shape."""
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat = []
    _collect(value, shape, 0, dtype, flat)
    array = np.empty(len(flat), dtype.as_numpy_dtype)
    array[:] = flat
    return array.reshape(shape)


def _collect(value, shape, level, dtype, flat):
    if not isinstance(value, list):
        if level != len(shape):
            raise _invalid(f"JSON Value found at incorrect level: {level + 1} in the JSON DOM. Expected: {len(shape)}")
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise _invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _collect(element, shape, level + 1, dtype, flat)


def _scalar(value, dtype):
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode()
        if not _is_base64(value):
            raise _invalid(f"JSON Value: {_excerpt(value)} not formatted correctly for base64 data")
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise _invalid("Unable to base64 decode") from error
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        tf.bool: isinstance(value, bool),
        tf.uint8: is_number and isinstance(value, int) and 0 <= value <= 255,
        tf.int32: is_number and isinstance(value, int) and abs(value) < 2**31,
    }.get(dtype, is_number)
    if not fits:
        raise _invalid(f"JSON Value: {_excerpt(value)} is not of expected type: {dtype.name}")
    return value


def _to_json(array, as_bytes):
    if array.dtype != object:
        return array.tolist()
    texts = [{"b64": base64.b64encode(item).decode()} if as_bytes else item.decode() for item in array.ravel()]
    filled = np.empty(len(texts), object)
    filled[:] = texts
    return filled.reshape(array.shape).tolist()


def _is_base64(value):
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _is_object(value):
    return isinstance(value, dict) and not _is_base64(value)


def _excerpt(value):
    return json.dumps(value)[:256]


def _invalid(message):
    return StatusError("INVALID_ARGUMENT", message)
