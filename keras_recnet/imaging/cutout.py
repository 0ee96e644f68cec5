"""Cut out the salient object, with soft edges that follow hair and fur.

The network sees the photo at about 256 pixels per side, so the edges of its map are off by a few pixels of the photo.
`cutout` refines them in three steps. All are local and need no solver, so a 12-megapixel photo takes seconds and a few
hundred megabytes:

1. Alpha is the steepened map after guided filtering, with the colors of the photo as the guide: in every window, alpha
   is the linear function of the colors that is closest to the map, so alpha changes where the colors change. The
   coefficients are computed at 1024 pixels per side and applied at full size (fast guided filter).
2. Pixels well inside the object stay opaque and pixels well outside stay transparent, whatever the filter returns.
3. A semi-transparent pixel is a mixture of object and background. Blur fusion estimates the color of the object, so
   that no rim of the old background remains.

References:
    He, Sun, Tang: Guided image filtering, 2013; He, Sun: Fast guided filter, 2015.
    Forte: Approximate fast foreground color estimation, 2021.
"""

import cv2
import numpy as np

# Chosen by eye on hair, fur and whiskers over a green background. Lengths are fractions of the longer side.
WORKING_SIDE = 1024
STEEPNESS = 3.0  # of the map around 0.5, before it is filtered
PASSES = 2  # of the filter; each moves the edge of the map closer to the edge in the photo
RADIUS = 1 / 64  # of the guided filter: about four pixels of a 256-pixel map
SMOOTHNESS = 1e-5  # of the guided filter (its ε, for colors in 0…1)
BAND = 1 / 85  # width of the uncertain band on each side of the edge
SURE = 0.9
MARGIN = 0.05  # alpha nearer than this to 0 or 1 becomes 0 or 1
BLURS = (1 / 6, 1 / 85)  # windows of the two passes of blur fusion
ROWS = 256  # processed at once at full size


def cutout(
    rgb: np.ndarray,
    saliency_map: np.ndarray,
    own_alpha: np.ndarray | None = None,
    *,
    working_side: int = WORKING_SIDE,
) -> np.ndarray:
    """Cut out the salient object.

    Args:
        rgb: uint8 `(H, W, 3)`.
        saliency_map: float32 `(H, W)` in 0…1.
        own_alpha: uint8 `(H, W)`, the image's own alpha channel; the computed alpha is multiplied by it.
        working_side: longer side, in pixels, at which the coefficients are computed. 512 takes half the time of 1024
            for a frame of 1280 × 720.

    Returns:
        uint8 `(H, W, 4)`, RGBA, alpha not premultiplied; fully transparent pixels are black.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, working_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    colors = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    plane = _alpha_plane(colors, cv2.resize(saliency_map, size, interpolation=cv2.INTER_AREA))
    mixed = _mixed_colors(colors, _alpha(colors, plane))

    plane, object_colors, ground_colors = (_Enlarged(array, (height, width)) for array in (plane, *mixed))
    rgba = np.zeros((height, width, 4), np.uint8)
    for start in range(0, height, ROWS):
        rows = slice(start, min(start + ROWS, height))
        colors = rgb[rows].astype(np.float32) / 255
        alpha = _alpha(colors, plane.rows(rows))
        colors = _unmixed(colors, alpha, object_colors.rows(rows), ground_colors.rows(rows))
        if own_alpha is not None:
            alpha *= own_alpha[rows].astype(np.float32) / 255
        rgba[rows, :, 3] = np.rint(alpha * 255)
        rgba[rows, :, :3] = np.rint(colors * 255) * (rgba[rows, :, 3:] > 0)
    return rgba


def on_background(rgba: np.ndarray, background: tuple[int, int, int] | np.ndarray) -> np.ndarray:
    """Composite a cutout on a color or an image.

    Args:
        rgba: uint8 `(H, W, 4)`.
        background: (red, green, blue), or uint8 `(h, w, 3)`, scaled to cover the cutout and cropped in the middle.

    Returns:
        uint8 `(H, W, 3)`.
    """
    height, width = rgba.shape[:2]
    if isinstance(background, np.ndarray):
        background = _cover(background, (height, width))
    else:
        background = np.broadcast_to(np.asarray(background, np.uint8), (height, width, 3))
    rgb = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, ROWS):
        rows = slice(start, start + ROWS)
        alpha = rgba[rows, :, 3:].astype(np.float32) / 255
        rgb[rows] = np.rint(rgba[rows, :, :3] * alpha + background[rows] * (1 - alpha))
    return rgb


def _cover(image, size):
    height, width = size
    scale = max(height / image.shape[0], width / image.shape[1])
    # cropped first: a narrow image, resized as a whole, could need any amount of memory
    rows, columns = max(1, round(height / scale)), max(1, round(width / scale))
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    part = image[top : top + rows, left : left + columns]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _alpha_plane(colors, saliency_map):
    """Return the inputs of `_alpha` per pixel, `(h, w, 6)`: three coefficients, a constant, and the bounds of alpha."""
    longer = max(saliency_map.shape)
    band = 2 * max(1, round(longer * BAND)) + 1
    sure = np.ones((band, band), np.uint8)
    lower = cv2.erode((saliency_map > SURE).astype(np.float32), sure)
    upper = 1 - cv2.erode((saliency_map < 1 - SURE).astype(np.float32), sure)
    alpha = saliency_map
    for _ in range(PASSES):
        steep = np.clip((alpha - 0.5) * STEEPNESS + 0.5, 0.0, 1.0)
        slopes, constant = _guided_coefficients(colors, steep, max(1, round(longer * RADIUS)))
        plane = np.dstack([slopes, constant, lower, upper]).astype(np.float32)
        alpha = _alpha(colors, plane)
    return plane


def _guided_coefficients(guide, target, radius):
    """He et al., Eq. 14 and 15 (color guide), and the window means of Eq. 16."""

    def mean(array):
        return cv2.blur(array, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_target = mean(guide), mean(target)
    covariance = mean(guide * target[..., None]) - mean_guide * mean_target[..., None]
    (rr, rg, rb), (_, gg, gb), (_, _, bb) = (
        [mean(guide[..., i] * guide[..., j]) - mean_guide[..., i] * mean_guide[..., j] for j in range(3)]
        for i in range(3)
    )
    rr, gg, bb = rr + SMOOTHNESS, gg + SMOOTHNESS, bb + SMOOTHNESS
    # The inverse of the symmetric 3×3 matrix, times the covariance
    inverse = (
        (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb),
        (gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb),
        (rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg),
    )
    determinant = rr * inverse[0][0] + rg * inverse[0][1] + rb * inverse[0][2]
    slopes = np.dstack([sum(row[i] * covariance[..., i] for i in range(3)) / determinant for row in inverse])
    return mean(slopes), mean(mean_target - (slopes * mean_guide).sum(axis=2))


def _alpha(colors, plane):
    alpha = (colors * plane[..., :3]).sum(axis=2) + plane[..., 3]
    alpha = np.clip(np.clip(alpha, plane[..., 4], plane[..., 5]), 0.0, 1.0)
    return np.clip((alpha - MARGIN) / (1 - 2 * MARGIN), 0.0, 1.0)


def _mixed_colors(colors, alpha):
    """Estimate the colors of object and background around each pixel by two blurring passes (Forte 2021)."""
    objects, ground = colors, colors
    for window in BLURS:
        side = max(1, round(max(alpha.shape) * window))

        def mean(weights, values, side=side):
            total = cv2.blur(weights, (side, side))[..., None]
            return cv2.blur(values * weights[..., None], (side, side)) / (total + 1e-5)

        mean_objects, mean_ground = mean(alpha, objects), mean(1 - alpha, ground)
        objects, ground = _unmixed(colors, alpha, mean_objects, mean_ground), mean_ground
    return mean_objects, mean_ground


def _unmixed(colors, alpha, objects, ground):
    alpha = alpha[..., None]
    return np.clip(objects + alpha * (colors - alpha * objects - (1 - alpha) * ground), 0.0, 1.0)


class _Enlarged:
    """An array enlarged bilinearly to `size`; its rows are computed on demand."""

    def __init__(self, array, size):
        self._height = size[0]
        self._wide = np.dstack([cv2.resize(channel, (size[1], array.shape[0])) for channel in np.moveaxis(array, 2, 0)])

    def rows(self, rows):
        last = self._wide.shape[0] - 1
        place = np.clip((np.arange(rows.start, rows.stop) + 0.5) * (last + 1) / self._height - 0.5, 0, last)
        above = np.minimum(place.astype(int), max(last - 1, 0))
        part = (place - above).astype(np.float32)[:, None, None]
        return self._wide[above] * (1 - part) + self._wide[np.minimum(above + 1, last)] * part
