"""Find the object in a saliency map: its box and center, the largest of several objects, and holes.

The object consists of the pixels whose value is at least `THRESHOLD`. Pixels that touch at a side or a corner are
connected.
"""

import cv2
import numpy as np

THRESHOLD = 0.5


def object_box(saliency_map: np.ndarray) -> tuple[int, int, int, int] | None:
    """Compute the smallest box that contains the object.

    Args:
        saliency_map: float32 `(H, W)` in 0…1.

    Returns:
        `(left, top, right, bottom)` in pixels; `right` and `bottom` are exclusive, as in Pillow. None if the map has no
        object.
    """
    left, top, width, height = cv2.boundingRect(_object(saliency_map))
    return (left, top, left + width, top + height) if width else None


def object_center(saliency_map: np.ndarray) -> tuple[float, float] | None:
    """Compute the center of mass of the object: the mean position of its pixels, weighted by their values.

    Args:
        saliency_map: float32 `(H, W)` in 0…1.

    Returns:
        `(x, y)` in pixels from the left and top edges, so the center of the first pixel is (0.5, 0.5). None if the map
        has no object.
    """
    weights = np.where(saliency_map >= THRESHOLD, saliency_map, np.float32(0))
    of_columns, of_rows = (weights.sum(axis=axis, dtype=np.float64) for axis in (0, 1))
    total = of_rows.sum()
    if not total:
        return None
    return tuple(float(sums @ (np.arange(len(sums)) + 0.5) / total) for sums in (of_columns, of_rows))


def largest_object(saliency_map: np.ndarray) -> np.ndarray:
    """Keep the object with the most pixels, the first from the top if several are equal.

    Every pixel belongs to the nearest object, so the soft edges of the other objects are removed too.

    Args:
        saliency_map: float32 `(H, W)` in 0…1.

    Returns:
        The map with zeros where another object is nearer; the map itself if it has no object.
    """
    objects = _object(saliency_map)
    if not objects.any():
        return saliency_map
    nearest = _nearest(objects)
    largest = np.bincount(nearest[objects > 0]).argmax()
    return np.where(nearest == largest, saliency_map, np.float32(0))


def fill_holes(saliency_map: np.ndarray) -> np.ndarray:
    """Fill holes in the object, parts of the background that do not touch the border of the image, with 1.

    The pixels of the object that are nearer to a hole than to the rest of the background become 1 too, so that no dim
    rim remains around the hole.

    Args:
        saliency_map: float32 `(H, W)` in 0…1.

    Returns:
        The map with its holes filled; the map itself if it has no background.
    """
    background = 1 - _object(saliency_map)
    if not background.any():
        return saliency_map
    nearest = _nearest(background)
    is_hole = np.ones(nearest.max() + 1, bool)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        is_hole[nearest[edge][background[edge] > 0]] = False
    return np.where(is_hole[nearest], np.float32(1), saliency_map)


def _object(saliency_map):
    return (saliency_map >= THRESHOLD).view(np.uint8)


def _nearest(mask):
    """Return int32 `(H, W)`: for each pixel, the number of the nearest connected component of a 0/1 mask."""
    return cv2.distanceTransformWithLabels(1 - mask, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)[1]
