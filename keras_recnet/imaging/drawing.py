"""Draw maps in gray, in black and white, as a heatmap, or over the photo."""

import cv2
import numpy as np

ADAPTIVE = "adaptive"


def to_8_bits(saliency_map: np.ndarray) -> np.ndarray:
    """Convert a map in 0…1, float32 `(H, W)`, to uint8 in 0…255, rounded."""
    return cv2.convertScaleAbs(saliency_map, alpha=255.0)


def binary(saliency_map: np.ndarray, threshold: float | str = 0.5) -> np.ndarray:
    """Threshold a map: uint8 `(H, W)`, 255 where the map reaches the threshold, else 0.

    Args:
        saliency_map: float32 `(H, W)` in 0…1.
        threshold: a number in 0…1, or `"adaptive"`: twice the map's mean, at most 1, as in the adaptive F-measure.
    """
    if threshold == ADAPTIVE:
        threshold = min(2.0 * float(saliency_map.mean()), 1.0)
    return (saliency_map >= threshold).astype(np.uint8) * 255


def heatmap(saliency_map: np.ndarray) -> np.ndarray:
    """Color a map from black through red to pale yellow ("inferno"): uint8 `(H, W, 3)` RGB."""
    return cv2.cvtColor(cv2.applyColorMap(to_8_bits(saliency_map), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def overlay(rgb: np.ndarray, saliency_map: np.ndarray) -> np.ndarray:
    """Blend the photo and a heatmap of its saliency map in equal parts: uint8 `(H, W, 3)`."""
    return cv2.addWeighted(rgb, 0.5, heatmap(saliency_map), 0.5, 0.0)


def attention(rgb: np.ndarray, weights: np.ndarray, pixel: tuple[int, int]) -> np.ndarray:
    """Draw the attention weights of `pixel` over the photo, with a ring around the pixel: uint8 `(H, W, 3)`.

    Args:
        rgb: uint8 `(H, W, 3)`.
        weights: float `(h, w)`, non-negative; divided by the largest weight.
        pixel: (row, column) in `rgb`.
    """
    height, width = rgb.shape[:2]
    weights = (weights / max(float(weights.max()), 1e-12)).astype(np.float32)
    drawn = overlay(rgb, np.clip(cv2.resize(weights, (width, height), interpolation=cv2.INTER_LINEAR), 0.0, 1.0))
    radius = max(3, round(max(height, width) / 60))
    for color, thickness in ((0, 0, 0), max(3, radius // 2)), ((255, 255, 255), max(1, radius // 4)):
        cv2.circle(drawn, (pixel[1], pixel[0]), radius, color, thickness, cv2.LINE_AA)
    return drawn
