"""Read COCO annotations: which images show which categories, and their masks."""

import contextlib
import json
import math
import os
import reprlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.group_folders import file_name_of
from keras_recnet.pipelines.pair_reading import PipelineDataError

# pycocotools runs out of memory on larger coordinates, and hangs or crashes on NaN and on run lengths with a wrong sum.
LARGEST_COORDINATE = 1e6
# Keys that every entry needs, and their types.
REQUIRED = {
    "images": {"id": "an integer"},
    "annotations": {"id": "an integer", "image_id": "an integer", "category_id": "an integer"},
    "categories": {"id": "an integer", "name": "a string"},
}
TYPES = {"an integer": int, "a string": str}
UNUSED = ("area", "bbox", "coco_url", "flickr_url", "date_captured", "license", "supercategory")


@dataclass(frozen=True)
class CocoImage:
    """An annotated photo. `name` has no suffix; `size` is `(width, height)` according to the annotations."""

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
        """Keep only the images with these names, and their masks."""
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

    The mask of a category is the union of all its instances in the image, crowds included. The arguments and errors are
    those of `make_coco_groups`, except for `progress`, which is called as `progress(done, total)` after each image.
    """
    try:
        from pycocotools import mask as rle
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Groups of COCO need pycocotools: pip install "keras-recnet[coco]"', name=error.name
        ) from None
    coco, folder, selection = _read(annotations), Path(images), CocoSelection()
    chosen, problems = _categories(coco["categories"], categories, annotations)
    if not folder.is_dir():
        problems.append(f"{folder}: the folder of images does not exist")
    if problems:
        raise PipelineDataError(problems, "Correct the path, or name categories as in the annotations.")
    instances = {}
    for annotation in coco["annotations"]:
        if annotation["category_id"] in chosen:
            instances.setdefault(annotation["image_id"], []).append(annotation)
    entries = {entry["id"]: entry for entry in coco["images"]}
    found = _images({number: entries.get(number, {}) for number in sorted(instances)}, folder, annotations, selection)
    for category in sorted(chosen.values()):
        selection.masks[category] = {}
    for done, (number, image) in enumerate(found.items(), start=1):
        parts = {}
        for annotation in instances[number]:
            part = _encoded(rle, annotation, image, selection.problems)
            if part is not None:
                parts.setdefault(chosen[annotation["category_id"]], []).append(part)
        for category, encoded in parts.items():
            mask = rle.merge(encoded)
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
            f"Check the folder and the categories. Objects must cover {area[0]:g}…{area[1]:g} of the image.",
        )
    return selection


def decode(mask: dict) -> np.ndarray:
    """Decode a run-length encoded mask to `(height, width)` uint8, 0 and 255."""
    from pycocotools import mask as rle

    return rle.decode(mask) * np.uint8(255)


def _read(path):
    """Read and check the annotations."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_hook=_compact)
        if not isinstance(content, dict) or not all(isinstance(content.get(k), list) and content[k] for k in REQUIRED):
            raise ValueError("it needs lists of images, annotations and categories")
    except (OSError, ValueError, RecursionError) as error:
        raise PipelineDataError(
            [f"{path}: not COCO annotations ({error})"], "Pass a file such as instances_train2017.json."
        ) from None
    problems = [
        f"{path}: `{name}` of {key}[{index}] must be {kind}. "
        f"Received: {reprlib.repr(entry.get(name) if isinstance(entry, dict) else entry)}"
        for key, required in REQUIRED.items()
        for index, entry in enumerate(content[key])
        for name, kind in required.items()
        if not isinstance(entry, dict) or type(entry.get(name)) is not TYPES[kind]
    ]
    if problems:
        raise PipelineDataError(problems, "Correct these entries.")
    return content


def _compact(entry):
    """Store polygons as arrays and drop unused keys: the COCO training set would take more than 3 GB otherwise."""
    for key in UNUSED:
        entry.pop(key, None)
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, list):
        with contextlib.suppress(TypeError, OverflowError):  # malformed polygons are reported when they are drawn
            entry["segmentation"] = [array("d", polygon) for polygon in segmentation]
    return entry


def _categories(categories, requested, path):
    """Return {id: name} of the requested categories, and problems."""
    names = {category["name"]: category["id"] for category in categories}
    lower = {name.lower(): name for name in names}
    problems = []
    for name in requested or ():
        if name not in names:
            similar = [lower[match] for match in get_close_matches(name.lower(), lower, 3)]
            hint = (
                f"Did you mean {', '.join(map(repr, similar))}?" if similar else f"It has {', '.join(sorted(names))}."
            )
            problems.append(f"{path}: has no category {name!r}. {hint}")
    return {names[name]: name for name in (names if requested is None else requested) if name in names}, problems


def _images(entries, folder, path, selection):
    """Return {id: CocoImage} of the existing images, and add a problem to the selection for each of the others."""
    images, taken = {}, {}
    for number, entry in entries.items():
        file_name, width, height = (entry.get(key) for key in ("file_name", "width", "height"))
        if not (isinstance(file_name, str) and PurePosixPath(file_name).name and _is_side(width) and _is_side(height)):
            selection.problems.append(f"{path}: image {number} has no valid file_name, width and height")
            continue
        file = folder / file_name
        name = file_name_of(PurePosixPath(file_name).with_suffix("").as_posix())
        if name in taken:
            selection.problems.append(f"{file}: would get the same name as {taken[name]}")
        elif not os.path.isfile(file):  # unlike `Path.is_file`, never raises
            selection.problems.append(f"{file}: listed in the annotations, but the file does not exist")
        else:
            taken[name] = file
            images[number] = CocoImage(name, file, (int(width), int(height)))
    return images


def _is_side(value):
    return isinstance(value, int | float) and 1 <= value < math.inf


def _encoded(rle, annotation, image, problems):
    """Return the run-length encoded mask of one instance; if there is none, add a problem and return None."""
    width, height = image.size
    try:
        segmentation = annotation["segmentation"]
        if not segmentation:
            raise ValueError("it is empty")
        if isinstance(segmentation, list):
            if not all(
                isinstance(polygon, array)  # see `_compact`
                and len(polygon) >= 2
                and len(polygon) % 2 == 0
                and np.abs(polygon).max() <= LARGEST_COORDINATE
                for polygon in segmentation
            ):
                raise ValueError("a polygon must be a list of finite numbers x, y, x, y, …")
            return rle.merge(rle.frPyObjects(segmentation, height, width))
        size, runs = segmentation["size"], segmentation["counts"]
        if size != [height, width]:
            raise ValueError(f"its size is {size[1]}×{size[0]}, not the image's")
        runs = _runs(runs) if isinstance(runs, str) else runs
        if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != width * height:
            raise ValueError("its run lengths do not add up to the size of the image")
        return rle.frPyObjects({"size": size, "counts": runs}, height, width)
    except Exception as error:  # the C code raises exceptions of every kind on malformed input
        reason = "it is missing" if isinstance(error, KeyError) else error
        problems.append(f"{image.path}: annotation {annotation['id']} has no usable segmentation ({reason})")
        return None


def _runs(text):
    """Decode compressed run lengths, like `rleFrString` of pycocotools."""
    runs, value, shift = [], 0, 0
    for code in text.encode("ascii"):
        value |= (code - 48 & 31) << shift
        shift += 5
        if not code - 48 & 32:
            value -= (code - 48 & 16) << shift - 4  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
