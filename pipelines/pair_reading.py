"""Read an image and its mask so that they match."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet.errors import DataError, ImageError
from keras_recnet.imaging import reading

# A mask with at least three levels, the brightest of which is darker than this, holds class labels, not gray values.
LABEL_LEVELS = 16
SHOWN_PROBLEMS = 20


class PipelineDataError(DataError):
    """All problems of the training data in one error.

    Args:
        problems: one line per problem, each naming its file.
        advice: what the user can do about them.

    Attributes:
        problems: all of them; the message shows the first 20.
        advice: as above.
    """

    def __init__(
        self,
        problems: Sequence[str],
        advice: str = "Correct or remove these files, or leave them out with a list of names.",
    ):
        self.problems, self.advice = list(problems), advice
        shown = [f"  - {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        hidden = len(self.problems) - len(shown)
        if hidden:
            shown.append(f"  … and {hidden} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in the data:", *shown, advice]))

    @classmethod
    def merge(cls, errors: Sequence["PipelineDataError"]) -> "PipelineDataError":
        """Return one error with the problems of several, each once."""
        problems = dict.fromkeys(problem for error in errors for problem in error.problems)
        return cls(list(problems), " ".join(dict.fromkeys(error.advice for error in errors)))


@dataclass(frozen=True, order=True)
class Pair:
    """An image and its mask; `name` is the image's path inside its folder, without suffix.

    A mask of None means that nothing in the image is salient: it is read as 0 everywhere.
    """

    name: str
    image: Path
    mask: Path | None


def read_pair(pair: Pair, at_least: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask.

    The mask may be 0/1, 0/255, gray, RGB, palette or 16-bit; an alpha channel that is not constant is the mask. A mask
    with two levels, one of them 0, becomes 0 and 255. A mask needs the image's proportions (a pixel of rounding is
    allowed), not its size. A mask that matches only the image as stored, before the EXIF orientation is applied, is
    turned with the image. If it matches the stored and the upright image (a square, a half turn), it is taken as drawn
    on the upright image, which is what annotation tools show.

    Args:
        pair: the two files; without a mask, the mask is 0 everywhere.
        at_least: as in `keras_recnet.imaging.reading.read`.

    Returns:
        `(image, mask)`: `(height, width, 3)` uint8 RGB and `(mask height, mask width)` uint8, 0…255.

    Raises:
        PipelineDataError: with all problems of the two files.
    """
    problems, picture, mask_size, turned = [], None, None, False
    try:
        picture = reading.read(pair.image, at_least=at_least)
    except ImageError as error:
        problems.append(str(error))
    if pair.mask is not None:
        try:
            with reading.open_image(pair.mask) as file:
                image, mask_turn = reading.upright(file), reading.turn_of(file)
                mask_size = image.size
                mask = _mask_values(image, pair.mask)
        except ImageError as error:
            problems.append(str(error))
    if picture is not None and mask_size is not None and not same_proportions(mask_size, picture.size[::-1]):
        stored = picture.size if picture.turn in reading.SWAPPING else picture.size[::-1]
        turned = mask_turn is None and same_proportions(mask_size, stored)
        if not turned:
            problems.append(size_problem(pair, mask_size, picture.size[::-1]))
    if problems:
        raise PipelineDataError(problems)
    if pair.mask is None:
        return picture.rgb, np.zeros(picture.rgb.shape[:2], np.uint8)
    return picture.rgb, np.asarray(Image.fromarray(mask).transpose(picture.turn)) if turned else mask


def same_proportions(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two (width, height) have the same proportions, up to a pixel of rounding in the smaller one."""
    (width, height), (other_width, other_height) = sorted((size, other))
    return (
        abs(width - height * other_width / other_height) <= 1 or abs(height - width * other_height / other_width) <= 1
    )


def size_problem(pair, mask_size, image_size):
    return (
        f"{pair.mask}: {mask_size[0]}×{mask_size[1]} pixels do not have the proportions of the image {pair.image}, "
        f"{image_size[0]}×{image_size[1]}"
    )


def _mask_values(mask, path):
    """`(height, width)` uint8 in 0…255 from a mask of any mode."""
    if mask.mode in reading.DEEP_MODES:
        values = reading.gray_values(mask)
        # A mask of 0/1 or 0…255 may be stored in 16 bits.
        small = values.dtype.kind != "f" and values.min() >= 0 and values.max() <= 255
        gray = values.astype(np.uint8) if small else reading.gray_to_8_bits(values, path)
    else:
        mask = reading.without_alpha(mask)
        if mask.mode not in ("1", "L") and _is_colored(np.asarray(mask.convert("RGB"))):
            raise ImageError(f"{path}: a color image, not a mask. Are images and masks swapped?")
        gray = np.asarray(mask.convert("L"))

    levels = np.flatnonzero(np.bincount(gray.ravel(), minlength=256))
    if list(levels) == [1] or (len(levels) == 2 and levels[0] == 0):
        return np.where(gray > 0, np.uint8(255), np.uint8(0))
    if len(levels) > 2 and levels[-1] < LABEL_LEVELS:
        raise ImageError(f"{path}: contains label numbers 0…{levels[-1]}, not a mask of 0 and 255.")
    return gray


def _is_colored(rgb):
    """Return whether `(height, width, 3)` is a color image, not a mask in RGB or with a palette."""
    spread = rgb.max(axis=-1) - rgb.min(axis=-1)
    # JPEG leaves traces of color in a gray mask, and black with one other color is a mask, too.
    if (spread > 48).mean() <= 0.01:
        return False
    colors = np.unique(rgb.reshape(-1, 3), axis=0)
    return len(colors) > 2 or (len(colors) == 2 and bool(colors[0].any()))
