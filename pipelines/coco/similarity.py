"""Global similarity of photos by GIST and a Lab histogram, as for the training groups of the RCAU paper."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from keras_recnet.imaging.resizing import resize

SCALES, ORIENTATIONS, CELLS = 4, 8, 4
GIST_SIZE, GIST_BORDER = 256, 32
# Cycles per image below which brightness is filtered out, and the padding of that filter.
PREFILTER_CYCLES, PREFILTER_BORDER = 4, 5
LAB_BINS = 8
LAB_SIZE = 128
# L is in 0…100. a and b reach ±108 in sRGB, but in photos nearly all values are within ±64.
LAB_RANGES = ((0.0, 100.0), (-64.0, 64.0), (-64.0, 64.0))


def gist(image: np.ndarray, *, size: int = GIST_SIZE, border: int = GIST_BORDER) -> np.ndarray:
    """GIST: the mean energy of Gabor filters in the cells of a 4×4 grid.

    The central square of the image is resized, converted to gray and locally normalized; 4 scales × 8 orientations of
    filters are applied as products of Fourier transforms, and each cell holds the mean modulus of each response.

    Args:
        image: `(height, width, 3)` uint8 RGB.
        size: side of the square, a multiple of 4.
        border: width of the mirrored border that is added before filtering.

    Returns:
        `(4 · 8 · 4 · 4,)` float32, non-negative: scale (fine to coarse), orientation, row, column.

    Reference:
        Oliva and Torralba, "Modeling the shape of the scene", IJCV 2001, with the parameters of the authors' `LMgist`.
    """
    gray = resize(image, (size, size), _middle_square(image)).mean(-1, dtype=np.float32)
    gray -= gray.min()
    gray *= 255 / max(float(gray.max()), 1.0)
    padded = np.pad(_prefilter(gray), border, "symmetric")
    spectrum = np.fft.fft2(padded)
    inner = slice(border, border + size)
    side = size // CELLS
    cells = np.empty((SCALES, ORIENTATIONS, CELLS, CELLS), np.float32)
    # Scale by scale: eight responses fit in the CPU cache, 32 do not.
    for scale, filters in enumerate(gabor_filters(len(padded))):
        response = np.abs(np.fft.ifft2(spectrum * filters))[:, inner, inner]
        cells[scale] = response.reshape(ORIENTATIONS, CELLS, side, CELLS, side).mean((2, 4))
    return cells.ravel()


@functools.lru_cache(maxsize=4)
def gabor_filters(size: int) -> np.ndarray:
    """Transfer functions of Gabor filters, one-sided, so responses are complex.

    At frequency `r` (cycles per pixel) and angle `t`: `exp(−3.5 (r / f − 1)² − 2π (t + θ)²)`, with centers
    `f = 0.3 / 1.85^scale` and `θ = π orientation / 8`.

    Args:
        size: side of the square image.

    Returns:
        `(4, 8, size, size)` float32, the frequencies in the order of `np.fft.fft2`.
    """
    y, x = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    center = 0.3 / 1.85 ** np.arange(SCALES)
    turned = angle + np.pi * np.arange(ORIENTATIONS)[:, None, None] / ORIENTATIONS
    turned -= 2 * np.pi * (turned > np.pi)
    radial = -3.5 * (radius / center[:, None, None] - 1) ** 2
    return np.exp(radial[:, None] - 2 * np.pi * turned**2).astype(np.float32)


def lab_histogram(image: np.ndarray) -> np.ndarray:
    """Joint histogram of the Lab colors of an image, 8×8×8 bins *(the number of bins is ours)*.

    Args:
        image: `(height, width, 3)` uint8 RGB.

    Returns:
        `(512,)` float32 of sum 1: L over 0…100, a and b over −64…64; values outside are counted in the outer bins.
    """
    small = resize(image, (LAB_SIZE, LAB_SIZE)).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    index = np.zeros(len(lab), np.intp)
    for channel, (low, high) in enumerate(LAB_RANGES):
        place = ((lab[:, channel] - low) * (LAB_BINS / (high - low))).astype(np.intp)
        index = index * LAB_BINS + np.clip(place, 0, LAB_BINS - 1)
    return np.bincount(index, minlength=LAB_BINS**3).astype(np.float32) / len(lab)


def descriptors(gists: np.ndarray, histograms: np.ndarray) -> np.ndarray:
    """Vectors whose Euclidean distance is the global dissimilarity *(the combination is ours)*.

    A vector joins GIST and the square root of the histogram (so that distances are Hellinger's), each divided by its
    root mean square distance to the mean over all images, so that shape and color count equally.

    Args:
        gists: `(images, 512)`.
        histograms: `(images, 512)`, each of sum 1.

    Returns:
        `(images, 1024)` float32.
    """
    parts = []
    for part in (gists, np.sqrt(histograms)):
        spread = np.sqrt(((part - part.mean(0)) ** 2).sum(1).mean())
        parts.append(part / max(float(spread), 1e-12))
    return np.concatenate(parts, axis=1).astype(np.float32)


def nearest(vectors: np.ndarray, count: int, rows: Sequence[int] | None = None, *, chunk: int = 512) -> np.ndarray:
    """Find the nearest other vectors by Euclidean distance.

    Args:
        vectors: `(images, features)`.
        count: neighbors per row, less than the number of images.
        rows: indices of the vectors to find neighbors for; None means all vectors.
        chunk: rows processed at once, which bounds the memory.

    Returns:
        `(rows, count)` indices, nearest first.
    """
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    squares = (vectors**2).sum(1)
    neighbors = np.empty((len(rows), count), np.intp)
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        # |x − y|² without |x|², which is the same for all y.
        distance = squares - 2 * (vectors[part] @ vectors.T)
        distance[np.arange(len(part)), part] = np.inf
        closest = np.argpartition(distance, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(distance, closest, 1), axis=1, kind="stable")
        neighbors[start : start + chunk] = np.take_along_axis(closest, order, 1)
    return neighbors


def _prefilter(gray):
    """Local contrast normalization: the logarithm minus its low frequencies, divided by the local deviation."""
    padded = np.pad(np.log1p(gray), PREFILTER_BORDER, "symmetric")
    odd = len(padded) % 2
    padded = np.pad(padded, (0, odd), "symmetric")
    low_pass = _low_pass(len(padded))
    fine = padded - np.fft.ifft2(np.fft.fft2(padded) * low_pass).real
    deviation = np.sqrt(np.abs(np.fft.ifft2(np.fft.fft2(fine**2) * low_pass)))
    inner = slice(PREFILTER_BORDER, PREFILTER_BORDER + len(gray))
    return (fine / (0.2 + deviation))[inner, inner]


@functools.lru_cache(maxsize=4)
def _low_pass(size):
    """Gaussian that is 1/2 at `PREFILTER_CYCLES` cycles per image."""
    square = (np.fft.fftfreq(size) * size) ** 2
    return np.exp(-(square[:, None] + square) * np.log(2) / PREFILTER_CYCLES**2).astype(np.float32)


def _middle_square(image):
    height, width = image.shape[:2]
    x, y = (min(height, width) / side for side in (width, height))
    return (1 - x) / 2, (1 - y) / 2, (1 + x) / 2, (1 + y) / 2
