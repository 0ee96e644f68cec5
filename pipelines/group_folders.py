"""Groups as folders that `find_groups`, the other co-saliency programs and the evaluation read."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet.files import atomic_path
from keras_recnet.pipelines.groups import Group
from keras_recnet.pipelines.pair_reading import read_pair


def write_group_folders(groups: Iterable[Group], folder: str | os.PathLike) -> None:
    """Lays groups out as `images/GROUP/NAME.jpg` and `masks/GROUP/NAME.png`, distractors with black masks.

    Images are symbolic links, or copies where the system has none. Masks keep their size and become 0…255. What is
    there is kept, so that an interrupted call can be made again.

    Args:
        groups: the groups.
        folder: where to; made if it is not there.

    Raises:
        PipelineDataError: if an image or mask cannot be read.
        ValueError: if two images would get one name.
    """
    folder, places = Path(folder), {}
    for group in groups:
        for pair, distractors in zip(group.pairs, group.distractors, strict=True):
            place = f"{file_name_of(group.name)}/{file_name_of(pair.name.removeprefix(f'{group.name}/'))}"
            if place in places:
                raise ValueError(f"Two images would be written as one. Received: {pair.name!r} for {place!r}")
            places[place] = pair, distractors
    for place, (pair, distractors) in places.items():
        link(pair.image, folder / "images" / f"{place}{pair.image.suffix}")
        target = folder / "masks" / f"{place}.png"
        if not target.exists():
            image, mask = read_pair(pair)
            write_mask(np.zeros(image.shape[:2], np.uint8) if distractors else mask, target)


def file_name_of(name: str) -> str:
    """A name that is one visible file's, whatever folders and signs it has."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name).strip(". ") or "_"


def link(source: str | os.PathLike, target: Path) -> None:
    """Makes `target` a symbolic link to a file, or a copy of it; one that exists stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    with contextlib.suppress(FileNotFoundError):
        target.unlink()  # a link to a file that has gone
    try:
        target.symlink_to(os.path.abspath(source))
    except (OSError, NotImplementedError):  # Windows asks for a privilege; some file systems have no links
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def write_mask(mask: np.ndarray, target: Path) -> None:
    """Writes a `(height, width)` uint8 mask as PNG, whole or not at all."""
    with atomic_path(target) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")
