"""Write groups as folders that `find_groups`, other co-saliency code and the evaluation read."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet.files import atomic_path, link
from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pair_reading import read_pair


def write_group_folders(groups: Iterable[Group], folder: str | os.PathLike) -> None:
    """Write groups as `images/GROUP/NAME.jpg` and `masks/GROUP/NAME.png`, distractors with black masks.

    Images are symbolic links, or copies where links are not supported. Masks keep their size; values become 0…255.
    Existing files are kept, so an interrupted call can be repeated.

    Raises:
        PipelineDataError: if an image or mask cannot be read.
        ValueError: if two images would get the same name.
    """
    folder, places = Path(folder), {}
    for group in groups:
        for pair, is_distractor in zip(group.pairs, group.distractors, strict=True):
            place = f"{file_name_of(group.name)}/{file_name_of(pair.name.removeprefix(f'{group.name}/'))}"
            if place in places:
                raise ValueError(f"Two images would be written to the same file. Received: {pair.name!r} for {place!r}")
            places[place] = pair, is_distractor
    for place, (pair, is_distractor) in places.items():
        link(pair.image, folder / "images" / f"{place}{pair.image.suffix}")
        target = folder / "masks" / f"{place}.png"
        if not target.exists():
            image, mask = read_pair(pair)
            write_mask(np.zeros(image.shape[:2], np.uint8) if is_distractor else mask, target)


def file_name_of(name: str) -> str:
    """Convert any name to the name of a single file that is not hidden."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name).strip(". ") or "_"


def write_mask(mask: np.ndarray, target: Path) -> None:
    """Write a `(height, width)` uint8 mask as PNG, atomically."""
    with atomic_path(target) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")
