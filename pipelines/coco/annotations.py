"""Read COCO annotations: which images show which categories, and their masks."""

import contextlib
import io
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.group_folders import file_name_of
from keras_recnet.pipelines.pairs import PipelineDataError

NOT_NEEDED = ("area", "bbox", "coco_url", "flickr_url", "date_captured", "license", "supercategory")


@dataclass(frozen=True)
class CocoImage:
    """An annotated photo.

    Attributes:
        name: its name in lists and folders, without suffix.
        path: the file.
        size: `(width, height)` by the annotations.
    """

    name: str
    path: Path
    size: tuple[int, int]


@dataclass
class CocoSelection:
    """Images and masks selected from COCO annotations.

    Attributes:
        images: by name.
        masks: category → name of an image → its mask, run-length encoded.
        problems: skipped annotations and images, one line each.
    """

    images: dict[str, CocoImage] = field(default_factory=dict)
    masks: dict[str, dict[str, dict]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def keep(self, names: Sequence[str]) -> None:
        """Drop all other images."""
        names = set(names)
        self.images = {name: image for name, image in self.images.items() if name in names}
        self.masks = {
            category: {name: mask for name, mask in masks.items() if name in names}
            for category, masks in self.masks.items()
        }


def select(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    *,
    categories: Sequence[str] | None = None,
    area: tuple[float, float] = (0.05, 0.7),
    most_images: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CocoSelection:
    """Select images by the categories that they show, and make their masks.

    The mask of a category is the union of all its instances in the image, crowds included.

    Args:
        annotations: JSON file in COCO format, such as `instances_train2017.json`.
        images: folder of the images.
        categories: names of categories; None uses all.
        area: smallest and largest fraction of an image that a category's mask may cover.
        most_images: number of images to draw if there are more; None uses all.
        seed: seed of the draw, 0 or more.
        progress: called as `progress(done, total)` after each image.

    Returns:
        A `CocoSelection`.

    Raises:
        ModuleNotFoundError: if pycocotools is not installed.
        PipelineDataError: if the annotations cannot be read, a category is unknown (with similar names), the
            folder does not exist or no image is left.
    """
    rle, coco = _read(annotations)
    folder = Path(images)
    if not folder.is_dir():
        raise PipelineDataError([f"{folder}: the folder of images does not exist"], "Check the path.")
    selection = CocoSelection()
    chosen = _categories(coco, categories, annotations)
    found = _images(coco, folder, chosen, selection.problems)
    for category in sorted(chosen.values()):
        selection.masks[category] = {}
    for done, (number, image) in enumerate(found.items(), start=1):
        parts = {}
        for annotation in coco.imgToAnns[number]:
            if annotation["category_id"] in chosen:
                part = _encoded(coco, annotation, image, selection.problems)
                if part is not None:
                    parts.setdefault(chosen[annotation["category_id"]], []).append(part)
        for category, instances in parts.items():
            mask = rle.merge(instances)
            if area[0] <= rle.area(mask) / (image.size[0] * image.size[1]) <= area[1]:
                selection.masks[category][image.name] = mask
        if progress is not None:
            progress(done, len(found))
    names = sorted({name for masks in selection.masks.values() for name in masks})
    if most_images is not None and len(names) > most_images:
        names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))[:most_images]]
    selection.images = {image.name: image for image in found.values()}
    selection.keep(names)
    if not names:
        raise PipelineDataError(
            [*selection.problems, f"{annotations}: no image of these categories is left in {folder}"],
            f"Check the folder, the categories, and the fraction of an image they cover ({area[0]:g}…{area[1]:g}).",
        )
    return selection


def decode(mask: dict) -> np.ndarray:
    """Decode a run-length encoded mask to `(height, width)` uint8, 0 and 255."""
    from pycocotools import mask as rle

    return rle.decode(mask) * np.uint8(255)


def _read(path):
    """Return (the module for run-length encoding, the annotations)."""
    try:
        from pycocotools import mask as rle
        from pycocotools.coco import COCO
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Groups of COCO need pycocotools: pip install "keras-recnet[coco]"', name=error.name
        ) from None
    try:
        coco = COCO()
        with open(path, encoding="utf-8") as file:
            coco.dataset = json.load(file, object_hook=_compact)
        if not isinstance(coco.dataset, dict):
            raise ValueError("it is a list")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            coco.createIndex()
        if not coco.cats or not coco.anns or not coco.imgs:
            raise ValueError("it needs images, annotations and categories")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise PipelineDataError(
            [f"{path}: not COCO annotations ({reason})"], "Give a file such as instances_train2017.json."
        ) from None
    return rle, coco


def _compact(entry):
    """Store polygons as arrays and drop unused keys: the COCO training set would take more than 3 GB otherwise."""
    for key in NOT_NEEDED:
        entry.pop(key, None)
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, list):
        with contextlib.suppress(TypeError):  # malformed polygons are reported when they are drawn
            entry["segmentation"] = [array("d", polygon) for polygon in segmentation]
    return entry


def _categories(coco, wanted, path):
    """Return {id: name} of the requested categories."""
    names = {category["name"]: number for number, category in coco.cats.items()}
    if wanted is None:
        wanted = list(names)
    lower = {name.lower(): name for name in names}
    problems = []
    for name in wanted:
        if name not in names:
            near = [lower[found] for found in get_close_matches(name.lower(), lower, 3)]
            hint = f"Did you mean {', '.join(map(repr, near))}?" if near else f"It has {', '.join(sorted(names))}."
            problems.append(f"{path}: has no category {name!r}. {hint}")
    if problems:
        raise PipelineDataError(problems, "Categories are named as in the annotations.")
    return {names[name]: name for name in wanted}


def _images(coco, folder, categories, problems):
    """Return {id: CocoImage} of the existing images that show a category."""
    numbers = {number for key in categories for number in coco.catToImgs.get(key, ())}
    found, taken = {}, {}
    for number in sorted(numbers):
        entry = coco.imgs.get(number, {})
        if not all(entry.get(key) for key in ("file_name", "width", "height")):
            problems.append(f"image {number} of the annotations: has no file_name, width and height")
            continue
        path = folder / entry["file_name"]
        name = file_name_of(PurePosixPath(entry["file_name"]).with_suffix("").as_posix())
        if name in taken:
            problems.append(f"{path}: would get the same name as {taken[name]}")
        elif not path.is_file():
            problems.append(f"{path}: no such file, though the annotations name it")
        else:
            taken[name] = path
            found[number] = CocoImage(name, path, (int(entry["width"]), int(entry["height"])))
    return found


def _encoded(coco, annotation, image, problems):
    """Return the run-length encoded mask of one instance, or None and add a problem."""
    try:
        if not annotation["segmentation"]:
            raise ValueError("it is empty")
        encoded = coco.annToRLE(annotation)
        if tuple(encoded["size"]) != image.size[::-1]:
            raise ValueError(f"its size is {encoded['size'][1]}×{encoded['size'][0]}, not the image's")
        return encoded
    except Exception as error:  # the C code raises exceptions of every kind on malformed input
        reason = "there is none" if isinstance(error, KeyError) else error
        problems.append(f"{image.path}: annotation {annotation['id']} has no usable segmentation ({reason})")
        return None
