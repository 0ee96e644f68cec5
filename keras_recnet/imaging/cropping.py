"""The crop of a photo around its object, with a margin and, optionally, an aspect ratio."""

MARGIN = 0.03


def crop_box(
    box: tuple[int, int, int, int] | None,
    size: tuple[int, int],
    *,
    margin: float = MARGIN,
    aspect: float | None = None,
) -> tuple[int, int, int, int]:
    """Compute the crop around an object.

    Without an aspect ratio, the crop is the object's box with the margin, cut off at the edges of the photo.

    With an aspect ratio, the box and its margin are extended in one direction, around their center. If the result
    crosses an edge of the photo, it is moved inside. If it is larger than the photo, it is reduced to the largest crop
    of this aspect ratio that fits; parts of the object can then be outside the crop.

    Args:
        box: `(left, top, right, bottom)` of the object in pixels. None: there is no object, and the whole photo is used
            as the box.
        size: `(height, width)` of the photo.
        margin: added on each side of the box, as a fraction of the box's longer side.
        aspect: width / height of the crop, to within a pixel; None: that of the box and its margin.

    Returns:
        `(left, top, right, bottom)` in pixels, at least one pixel and never outside the photo.

    Raises:
        ValueError: if the margin is negative or the aspect ratio is not positive.
    """
    if not 0 <= margin < float("inf"):
        raise ValueError(f"`margin` must be at least 0. Received: margin={margin!r}")
    if aspect is not None and not 0 < aspect < float("inf"):
        raise ValueError(f"`aspect` must be a positive number, width / height. Received: aspect={aspect!r}")
    whole_height, whole_width = size
    left, top, right, bottom = box or (0, 0, whole_width, whole_height)
    extra = round(margin * max(right - left, bottom - top))
    if aspect is None:
        return (
            max(0, left - extra),
            max(0, top - extra),
            min(whole_width, right + extra),
            min(whole_height, bottom + extra),
        )
    width, height = right - left + 2 * extra, bottom - top + 2 * extra
    width, height = max(width, height * aspect), max(height, width / aspect)
    scale = min(1, whole_width / width, whole_height / height)
    left, right = _inside((left + right) / 2, width * scale, whole_width)
    top, bottom = _inside((top + bottom) / 2, height * scale, whole_height)
    return left, top, right, bottom


def _inside(center, length, whole):
    """Round an interval to pixels and move it into 0…`whole`."""
    length = min(max(1, round(length)), whole)
    start = min(max(0, round(center - length / 2)), whole - length)
    return start, start + length
