"""Synthetic images to verify exports: colored shapes on a mottled background."""

import io

import numpy as np
from PIL import Image, ImageDraw


def image_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return five image sizes for a network with an even input `size`: narrower, wider, shorter, taller and equal.

    One side is halved or doubled, because for these factors the resize of every implementation gives identical pixels:
    the weights, 1/8 or 1/7 at the edges, are summed exactly, so that all implementations round halves alike.
    """
    height, width = size
    return [(height, width // 2), (height, 2 * width), (height // 2, width), (2 * height, width), size]


def draw(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Draw a synthetic image, reproducible by size and seed.

    Args:
        size: `(height, width)`.
        seed: seed of the shapes and colors.

    Returns:
        uint8 `(height, width, 3)`, RGB.
    """
    height, width = size
    random = np.random.default_rng(seed)
    background = Image.fromarray(random.integers(40, 160, (6, 8, 3), dtype=np.uint8))
    image = background.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = random.uniform(0.1, 0.7, 2) * (width, height)
        w, h = random.uniform(0.15, 0.35, 2) * (width, height)
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=tuple(random.integers(0, 256, 3).tolist()))
    noise = random.normal(0, 6, (height, width, 1))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def encode_png(array: np.ndarray) -> bytes:
    """Encode a uint8 array as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """Decode a PNG file to a uint8 array."""
    return np.asarray(Image.open(io.BytesIO(data)))


def png_header(size: tuple[int, int]) -> bytes:
    """Return the header of a PNG file with this image size, without pixel data."""
    height, width = size
    start = encode_png(np.zeros((1, 1), np.uint8))
    return start[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + start[24:33]
