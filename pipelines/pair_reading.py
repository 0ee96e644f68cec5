"""Read an image and its mask so that they match."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet.errors import DataError, ImageError
from keras_recnet.imaging import reading
from keras_recnet.imaging.resizing import resize

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

    Knowledge distillation adds the saliency map that a teacher predicted for the image. The mask is then read as a soft
    target in 0…1, `teacher_weight · map + (1 - teacher_weight) · mask`, or the map alone if the mask is None.
    Cross-entropy is linear in the target, so the soft target gives exactly the weighted sum of the losses with the
    teacher and with the mask in the reference. Dice, IoU and absolute error are computed with the soft target, too.

    Reference:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, with temperature 1. Zhang et al.,
        "KD-SCFNet", 2022, train small saliency networks on a teacher's maps of images without masks.
    """

    name: str
    image: Path
    mask: Path | None
    teacher_map: Path | None = None
    teacher_weight: float = 1.0


def read_pair(pair: Pair, at_least: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask.

    The mask may be 0/1, 0/255, gray, RGB, palette or 16-bit; an alpha channel that is not constant is the mask. A mask
    with two levels, one of them 0, becomes 0 and 255. A mask needs the image's proportions (a pixel of rounding is
    allowed), not its size. A mask that matches only the image as stored, before the EXIF orientation is applied, is
    turned with the image. If it matches the stored and the upright image (a square, a half turn), it is taken as drawn
    on the upright image, which is what annotation tools show.

    A teacher's map is gray with 8 or 16 bits or float, from black (0) to white (1), and needs the image's proportions,
    too. It is resized to the mask and mixed with it, see `Pair`.

    Args:
        pair: the files; without a mask and a teacher's map, the mask is 0 everywhere.
        at_least: as in `keras_recnet.imaging.reading.read`.

    Returns:
        `(image, mask)`: `(height, width, 3)` uint8 RGB and `(mask height, mask width)` uint8, 0…255.

    Raises:
        PipelineDataError: with all problems of the files.
    """
    problems, picture, mask, teacher_map = [], None, None, None
    try:
        picture = reading.read(pair.image, at_least=at_least)
    except ImageError as error:
        problems.append(str(error))
    if pair.mask is not None:
        mask = _read_mask(pair.mask, _mask_values, pair.image, picture, problems)
    if pair.teacher_map is not None:
        teacher_map = _read_mask(pair.teacher_map, _map_values, pair.image, picture, problems)
    if problems:
        raise PipelineDataError(problems)
    if mask is None and teacher_map is None:
        return picture.rgb, np.zeros(picture.rgb.shape[:2], np.uint8)
    if teacher_map is None:
        return picture.rgb, mask
    if mask is None:
        return picture.rgb, teacher_map
    soft = pair.teacher_weight * resize(teacher_map, mask.shape) + (1 - pair.teacher_weight) * mask
    return picture.rgb, np.rint(soft).astype(np.uint8)


def _read_mask(path, values, image_path, picture, problems):
    """Read a mask or map and turn it like the image; add what is wrong to `problems`.

    Args:
        path: file of the mask or map.
        values: converts it to `(height, width)` uint8, given the Pillow image and the path.
        image_path: file of the image.
        picture: the `DecodedImage`; None if it cannot be read, then the proportions are not compared.
        problems: list of messages.
    """
    mask, size = None, None
    try:
        with reading.open_image(path) as file:
            upright, mask_turn = reading.upright(file), reading.turn_of(file)
            size = upright.size
            mask = values(upright, path)
    except ImageError as error:
        problems.append(str(error))
    if picture is None or size is None or same_proportions(size, picture.size[::-1]):
        return mask
    stored = picture.size if picture.turn in reading.SWAPPING else picture.size[::-1]
    if mask_turn is None and same_proportions(size, stored):
        return None if mask is None else np.asarray(Image.fromarray(mask).transpose(picture.turn))
    problems.append(size_problem(path, size, image_path, picture.size[::-1]))
    return None


def same_proportions(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two (width, height) have the same proportions, up to a pixel of rounding in the smaller one."""
    (width, height), (other_width, other_height) = sorted((size, other))
    return (
        abs(width - height * other_width / other_height) <= 1 or abs(height - width * other_height / other_width) <= 1
    )


def size_problem(mask, mask_size, image, image_size):
    return (
        f"{mask}: {mask_size[0]}×{mask_size[1]} pixels do not have the proportions of the image {image}, "
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
        gray = _gray(mask, path, "a mask. Are images and masks swapped?")

    two_values = reading.object_of_two_values(gray)
    if two_values is not None:
        return np.where(two_values, np.uint8(255), np.uint8(0))
    levels = np.flatnonzero(np.bincount(gray.ravel(), minlength=256))
    if len(levels) > 2 and levels[-1] < LABEL_LEVELS:
        raise ImageError(f"{path}: contains label numbers 0…{levels[-1]}, not a mask of 0 and 255.")
    return gray


def _map_values(saliency_map, path):
    """`(height, width)` uint8 in 0…255 from a saliency map of any mode, whose values are taken as they are."""
    if saliency_map.mode in reading.DEEP_MODES:
        return reading.gray_to_8_bits(reading.gray_values(saliency_map), path)
    return _gray(saliency_map, path, "a saliency map.")


def _gray(mask, path, kind):
    mask = reading.without_alpha(mask)
    if mask.mode not in ("1", "L") and _is_colored(np.asarray(mask.convert("RGB"))):
        raise ImageError(f"{path}: a color image, not {kind}")
    return np.asarray(mask.convert("L"))


def _is_colored(rgb):
    """Return whether `(height, width, 3)` is a color image, not a mask in RGB or with a palette."""
    spread = rgb.max(axis=-1) - rgb.min(axis=-1)
    # JPEG leaves traces of color in a gray mask, and black with one other color is a mask, too.
    if (spread > 48).mean() <= 0.01:
        return False
    colors = np.unique(rgb.reshape(-1, 3), axis=0)
    return len(colors) > 2 or (len(colors) == 2 and bool(colors[0].any()))
