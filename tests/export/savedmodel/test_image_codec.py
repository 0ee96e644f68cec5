import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from keras_recnet.export.savedmodel import image_codec
from keras_recnet.imaging.reading import read

SIZE = (16, 24)
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
FORMATS = [(color_type, depth) for color_type, depths in DEPTHS.items() for depth in depths]


def make_png(color_type, depth, *, alpha=b"", transparent_color=False):
    """Return a PNG file with random pixels.

    Args:
        color_type: the PNG color type.
        depth: bits per channel.
        alpha: alpha values of the first palette entries; the others are opaque.
        transparent_color: whether pixels with the color of the first pixel are transparent.
    """
    random = np.random.default_rng(depth)
    height, width = SIZE
    values = random.integers(0, 1 << depth, (height, width * CHANNELS[color_type]))
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))]
    if color_type == PALETTE:
        chunks.append((b"PLTE", random.bytes(3 << depth)))
    color = b"".join(struct.pack(">H", value) for value in values[0, : CHANNELS[color_type]])
    if alpha or transparent_color:
        chunks.append((b"tRNS", alpha or color))
    chunks.append((b"IDAT", zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())))
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in (*chunks, (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return file


def assert_decoded_as_by_read(file, atol=0):
    images, sizes, status = image_codec.decode(tf.constant([file]), SIZE, 1000)
    assert (sizes.numpy().tolist(), status.numpy().tolist()) == ([list(SIZE)], [image_codec.OK])
    np.testing.assert_allclose(images[0], read(file).rgb, rtol=0, atol=atol)


@pytest.mark.parametrize(("color_type", "depth"), FORMATS)
def test_png_without_transparency_is_decoded_as_by_read(color_type, depth):
    file = make_png(color_type, depth)
    assert_decoded_as_by_read(file)
    assert read(file).rgb.std() > 10


@pytest.mark.parametrize("depth", DEPTHS[PALETTE])
def test_png_with_transparent_palette_entries_is_decoded_as_by_read(depth):
    # atol=1: TensorFlow and Pillow round differently when compositing on white
    alpha = np.linspace(0, 255, 1 << depth).astype(np.uint8)
    assert_decoded_as_by_read(make_png(PALETTE, depth, alpha=alpha.tobytes()), atol=1)
    assert_decoded_as_by_read(make_png(PALETTE, depth, alpha=b"\x80"), atol=1)


@pytest.mark.parametrize(("color_type", "depth"), [case for case in FORMATS if case[0] in (GRAY, RGB)])
def test_png_with_a_transparent_color_is_decoded_as_by_read(color_type, depth):
    assert_decoded_as_by_read(make_png(color_type, depth, transparent_color=True))
