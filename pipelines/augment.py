"""Augment an image and its mask, as a pure function of the random numbers passed in."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from keras_recnet.imaging.resizing import resize

# Rec. 601 luma, as in Pillow's mode "L".
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augment:
    """Random augmentation of an image and its mask.

    Geometry (image and mask): a horizontal flip, and a crop whose height and width are drawn independently from
    `min_crop`…1 of the sides, resized to the training size. Color (image only), with `m` the mean gray of the crop:

        `x ← brightness · (contrast · (saturate(x) − m) + m)`, `saturate(x) = s·x + (1 − s)·gray(x)`

    Args:
        flip: probability of a horizontal flip, 0…1.
        min_crop: smallest fraction of a side that a crop keeps, above 0 and at most 1; 1 disables cropping.
        brightness: 0…1; the factor is drawn from `1 − brightness … 1 + brightness`; 0 disables it.
        contrast: the same for the contrast.
        saturation: the same for `s`.

    Raises:
        ValueError: if a value is outside its range.
    """

    flip: float = 0.5
    min_crop: float = 0.75
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    # Random numbers per sample: flip, crop (height, width, top, left), and the three color factors.
    DRAWS = 8

    def __post_init__(self):
        for name in ("flip", "min_crop", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "min_crop" and value == 0):
                raise ValueError(f"`{name}` must be in 0…1 (`min_crop` above 0). Received: {name}={value!r}")

    def __call__(
        self, planes: Sequence[np.ndarray], size: tuple[int, int], draws: Sequence[float]
    ) -> tuple[np.ndarray, ...]:
        """Augment and resize an image and its masks.

        Args:
            planes: uint8 arrays `(height, width[, channels])` that are cropped and flipped alike: one packed array of
                RGB and mask, or an image and its masks.
            size: `(height, width)` of the result.
            draws: `DRAWS` numbers in 0…1.

        Returns:
            `(image, mask, …)`: `(height, width, 3)` and `(height, width)` uint8, with as many masks as in `planes`.
        """
        flip, *crop, brightness, contrast, saturation = draws
        box = self._box(*crop)
        image, *masks = split([resize(plane, size, box) for plane in planes])
        if flip < self.flip:
            image, *masks = (cv2.flip(plane, 1) for plane in (image, *masks))
        return self._recolor(image, *(2 * np.array([brightness, contrast, saturation]) - 1)), *masks

    def _box(self, height, width, top, left):
        """Return (left, top, right, bottom) of the crop, in fractions of the sides."""
        height, width = (self.min_crop + (1 - self.min_crop) * part for part in (height, width))
        top, left = top * (1 - height), left * (1 - width)
        return left, top, left + width, top + height

    def _recolor(self, image, brightness, contrast, saturation):
        """Apply the three color changes. They are linear in RGB, so one 3×4 matrix and one pass are enough."""
        b = 1 + self.brightness * brightness
        c = 1 + self.contrast * contrast
        s = 1 + self.saturation * saturation
        if b == c == s == 1:
            return image
        mean = float(LUMA @ cv2.mean(image)[:3])
        matrix = np.empty((3, 4), np.float32)
        matrix[:, :3] = b * c * (s * np.eye(3) + (1 - s) * LUMA)
        matrix[:, 3] = b * (1 - c) * mean
        return cv2.transform(image, matrix)


def split(planes):
    """Return `(image, mask)` of one packed array, or `planes` themselves: an image and its masks."""
    if len(planes) > 1:
        return planes
    return cv2.cvtColor(planes[0], cv2.COLOR_RGBA2RGB), cv2.extractChannel(planes[0], 3)
