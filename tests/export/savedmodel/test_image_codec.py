import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from keras_recnet.export.savedmodel import image_codec
from keras_recnet.imaging.reading import read

SIZE = (16, 24)
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
KINDS = [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]


def png(kind, depth, *, alpha=b"", transparent_color=False):
    """Return a PNG file with random pixels.

    Args:
        kind: the color type.
        depth: bits per channel.
        alpha: alpha of the first entries of the palette; the others are opaque.
        transparent_color: whether all pixels of the first one's color are transparent.
    """
    random = np.random.default_rng(depth)
    height, width = SIZE
    values = random.integers(0, 1 << depth, (height, width * CHANNELS[kind]))
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    if kind == PALETTE:
        chunks.append((b"PLTE", random.bytes(3 << depth)))
    color = b"".join(struct.pack(">H", value) for value in values[0, : CHANNELS[kind]])
    if alpha or transparent_color:
        chunks.append((b"tRNS", alpha or color))
    chunks.append((b"IDAT", zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())))
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in (*chunks, (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return file


def assert_read_as_by_prediction(file, atol=0):
    images, sizes, status = image_codec.decode(tf.constant([file]), SIZE, 1000)
    assert (sizes.numpy().tolist(), status.numpy().tolist()) == ([list(SIZE)], [image_codec.GOOD])
    np.testing.assert_allclose(images[0], read(file).rgb, rtol=0, atol=atol)


@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_png_without_transparency(kind, depth):
    file = png(kind, depth)
    assert_read_as_by_prediction(file)
    assert read(file).rgb.std() > 10


@pytest.mark.parametrize("depth", DEPTHS[PALETTE])
def test_png_with_transparent_palette_entries(depth):
    # compositing on white rounds differently
    alpha = np.linspace(0, 255, 1 << depth).astype(np.uint8)
    assert_read_as_by_prediction(png(PALETTE, depth, alpha=alpha.tobytes()), atol=1)
    assert_read_as_by_prediction(png(PALETTE, depth, alpha=b"\x80"), atol=1)


@pytest.mark.parametrize(("kind", "depth"), [one for one in KINDS if one[0] in (GREY, RGB)])
def test_png_with_a_transparent_color(kind, depth):
    assert_read_as_by_prediction(png(kind, depth, transparent_color=True))
