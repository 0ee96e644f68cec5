"""Pictures that every proof can draw anew: coloured shapes over a mottled ground."""

import io

import numpy as np
from PIL import Image, ImageDraw


def sizes_for(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes of pictures for a network that sees `size`, even numbers: narrower, wider, lower, higher, and as it is.

    One side is half as long or twice as long, for there all ways to resize agree on every pixel: weights of 1/8, or 1/7
    at the edges, are summed exactly, so none takes a half for a little less than one.
    """
    height, width = size
    return [(height, width // 2), (height, 2 * width), (height // 2, width), (2 * height, width), size]


def drawn(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A picture, uint8 `(height, width, 3)`, in RGB; the same for the same size and seed.

    Args:
        size: `(height, width)`.
        seed: of its shapes and colours.
    """
    height, width = size
    random = np.random.default_rng(seed)
    ground = Image.fromarray(random.integers(40, 160, (6, 8, 3), dtype=np.uint8))
    image = ground.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = random.uniform(0.1, 0.7, 2) * (width, height)
        w, h = random.uniform(0.15, 0.35, 2) * (width, height)
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=tuple(random.integers(0, 256, 3).tolist()))
    noise = random.normal(0, 6, (height, width, 1))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def as_png(array: np.ndarray) -> bytes:
    """The bytes of a PNG file of a uint8 array."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def of_png(data: bytes) -> np.ndarray:
    """The uint8 array in a PNG file."""
    return np.asarray(Image.open(io.BytesIO(data)))


def png_header(size: tuple[int, int]) -> bytes:
    """The beginning of a PNG file that claims to have a size; nothing follows."""
    height, width = size
    start = as_png(np.zeros((1, 1), np.uint8))
    return start[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + start[24:33]
