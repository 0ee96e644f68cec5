"""Reduce flicker between the maps of consecutive frames."""

import numpy as np

STRENGTH = 0.6  # weight of the previous map where the two maps are equal
TOLERANCE = 0.2  # difference at which the weight has fallen to 1/e of `STRENGTH`


class MapSmoother:
    """Blends each map with the previous smoothed map where the two agree.

    With the network's map m and the previous smoothed map s, the smoothed map is

        m + w · (s - m),  w = STRENGTH · exp(-((s - m) / TOLERANCE)²).

    Small differences, which are seen as flicker, are reduced. Large ones, where an object has moved or the scene has
    changed, are kept, so that no object leaves a trail.
    """

    def __init__(self):
        self._previous = None

    def __call__(self, saliency_map: np.ndarray) -> np.ndarray:
        """Smooth the next map, float32 `(h, w)` in 0…1; its size must not change."""
        if self._previous is not None:
            difference = self._previous - saliency_map
            weight = STRENGTH * np.exp(-np.square(difference / TOLERANCE))
            saliency_map = saliency_map + weight * difference
        self._previous = saliency_map
        return saliency_map
