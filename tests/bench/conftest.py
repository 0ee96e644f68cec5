"""Small ONNX files, written without the onnx package."""

import pytest

FLOAT = 1  # ONNX data type; 11 is double


@pytest.fixture(scope="session")
def write_onnx():
    """Write a network of one ReLU: `write_onnx(path, (1, 3, 8, 8))`. A string is an open dimension."""

    def write(path, shape, kind=FLOAT, inputs=1):
        names = ["image", *(f"more{number}" for number in range(1, inputs))]
        node = b"".join(map(field, (1, 2, 4), (names[0], "map", "Relu")))
        values = b"".join(field(11, value(name, shape, kind)) for name in names)
        graph = field(1, node) + field(2, "tiny") + values + field(12, value("map", shape, kind))
        path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17)))
        return path

    return write


def value(name, shape, kind):
    """A `ValueInfoProto`."""
    dimensions = b"".join(field(1, field(1 if isinstance(length, int) else 2, length)) for length in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dimensions)))


def field(number, content):
    """A protocol buffer field: a number as a varint; bytes and text with a length prefix."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number):
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])
