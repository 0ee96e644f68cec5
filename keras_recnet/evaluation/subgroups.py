"""Random subgroups of a dataset's groups, with noise images: how much do results depend on the images of a group?"""

import dataclasses
import hashlib
import json
import os
import zlib
from pathlib import Path

import numpy as np

from keras_recnet.errors import ConfigError, DataError, ImageError
from keras_recnet.evaluation.datasets import DataSet, files_by_name, masks_of
from keras_recnet.evaluation.figures import slug
from keras_recnet.files import link
from keras_recnet.imaging.reading import SUFFIXES, open_image, upright
from keras_recnet.imaging.writing import encode, write


@dataclasses.dataclass(frozen=True)
class Subgroups:
    """How to draw subgroups.

    Args:
        size: number of images of the group per subgroup.
        draws: number of subgroups per group.
        noise: number of noise images that are added to each subgroup and scored as distractors.
        noise_from: folder of noise images, searched with its subfolders. Images of the group itself are not drawn.
        seed: seed of all draws. More draws do not change the first ones, and noise images do not change which of the
            group's images are drawn.

    Raises:
        ConfigError: if a number is out of range, or there are noise images without a folder or vice versa.
    """

    size: int
    draws: int = 1
    noise: int = 0
    noise_from: str | os.PathLike | None = None
    seed: int = 0

    def __post_init__(self):
        if min(self.size, self.draws) < 1 or min(self.noise, self.seed) < 0:
            raise ConfigError(f"Subgroups need a size and a number of draws of at least 1. Received: {self!r}")
        if (self.noise > 0) != (self.noise_from is not None):
            raise ConfigError("Noise images need a number and a folder (--noise, --noise-from).")

    def __str__(self):
        noise = f" and {self.noise} noise image{'s' * (self.noise > 1)}" if self.noise else ""
        return f"subgroups of {self.size}{noise}"


def draw_subgroups(data_set: DataSet, subgroups: Subgroups, out: str | os.PathLike) -> DataSet:
    """Draw subgroups and write them as a dataset of links, which is then predicted and scored like any other.

    The images of draw 3 of the group "cat" are `OUT/subgroups/SET-CHECKSUM/images/cat/003/POSITION_NAME`, in random
    order; noise images are at random positions and have black masks. Means are over all draws of a group, and then
    over groups.

    Args:
        data_set: a grouped dataset with images and without maps, because maps depend on the group.
        subgroups: how to draw.
        out: the output folder of the evaluation.

    Raises:
        ConfigError: if the dataset is not grouped, or has maps or no images.
        DataError: if a mask has no image, a group has too few images, or there are too few noise images.
        DiskError: if a link cannot be written.
    """
    if not data_set.grouped or data_set.maps or data_set.images is None:
        raise ConfigError(
            f"{data_set.name}: subgroups need groups (--grouped), images (--images) and presets (--preset). "
            f"Maps from files (--maps) were computed for the whole groups."
        )
    masks, images = masks_of(data_set), files_by_name(data_set.images, SUFFIXES, "images")
    without_image = [name for name in masks if name not in images]
    if without_image:
        raise DataError(f"{masks[without_image[0]]}: no image of this name in {data_set.images}.")
    groups = {}
    for name in masks:
        groups.setdefault(os.path.dirname(name), []).append(name)
    small = [f"{group} ({len(names)})" for group, names in groups.items() if len(names) < subgroups.size]
    if small:
        raise DataError(
            f"{data_set.name}: subgroups of {subgroups.size} need groups of at least as many images. Choose a smaller "
            f"number, or leave these groups out (--names). Received: {', '.join(small)}"
        )
    noise = files_by_name(subgroups.noise_from, SUFFIXES, "noise images") if subgroups.noise else {}
    files = [str(path) for name in masks for path in (images[name], masks[name])]
    folder = _folder(data_set, subgroups, out, [*files, *map(str, noise.values())])
    for group, names in groups.items():
        group_noise = _other_files(noise, {os.path.realpath(images[name]) for name in names})
        if len(group_noise) < subgroups.noise:
            raise DataError(
                f"{subgroups.noise_from}: {subgroups.noise} noise images are needed that are not in the group {group}. "
                f"Received: {len(group_noise)}"
            )
        for number, members in enumerate(_draw(subgroups, group, names, list(group_noise))):
            for position, (name, is_noise) in enumerate(members):
                place = f"{group}/{number:03}/{position:03}_{'noise_' * is_noise}{slug(os.path.basename(name))}"
                image = group_noise[name] if is_noise else images[name]
                link(image, folder / "images" / f"{place}{image.suffix}")
                if is_noise:
                    _write_black_mask(image, folder / "masks" / f"{place}.png")
                else:
                    link(masks[name], folder / "masks" / f"{place}{masks[name].suffix}")
    name = f"{data_set.name}, {subgroups}"
    return dataclasses.replace(
        data_set, name=name, masks=folder / "masks", images=folder / "images", names=None, split=None, draws=True
    )


def _draw(subgroups, group, names, noise):
    """Yield the members of each draw, in order: (name, whether it is noise)."""
    key = subgroups.seed, zlib.crc32(os.fsencode(group))
    random, noise_random = np.random.default_rng((*key, 0)), np.random.default_rng((*key, 1))
    for _ in range(subgroups.draws):
        members = [(names[index], False) for index in random.choice(len(names), subgroups.size, replace=False)]
        if subgroups.noise:
            for index in noise_random.choice(len(noise), subgroups.noise, replace=False):
                members.insert(int(noise_random.integers(len(members) + 1)), (noise[index], True))
        yield members


def _other_files(noise, files):
    return {name: path for name, path in noise.items() if os.path.realpath(path) not in files}


def _folder(data_set, subgroups, out, files):
    """Return a folder that no other dataset and no other options use."""
    key = json.dumps([dataclasses.astuple(subgroups), files], default=os.fspath)
    return Path(out, "subgroups", f"{slug(data_set.name)}-{hashlib.sha256(key.encode()).hexdigest()[:8]}")


def _write_black_mask(image, path):
    if path.exists():
        return
    try:
        with open_image(image) as file:
            width, height = upright(file).size
    except ImageError as error:
        raise DataError(f"{error} Remove it from the noise images.") from error
    write(encode(np.zeros((height, width), np.uint8)), path)
