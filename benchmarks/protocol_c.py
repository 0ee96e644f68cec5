"""Protocol C of the co-saliency evaluation: composites of two objects, only one of which the group has in common.

    python benchmarks/protocol_c.py DUTS-TR --folders OUT                            # reads benchmarks/protocol_c.csv
    python benchmarks/protocol_c.py DUTS-TR --draw benchmarks/groups/duts_tr.csv     # draws that list, seed 0

Each pair of groups of different categories has one composite, half of them a mosaic, half a paste. It belongs to both
groups, with the mask of that group's object. A network that sees one image cannot know which object to mark.
`OUT/c` contains `images/GROUP/NUMBER_KIND.png` and `masks/GROUP/NUMBER_KIND.png`. The images and masks are read from
`images` and `masks` in the folder of the dataset. Then run

    keras-recnet evaluate --grouped --masks OUT/c/masks --images OUT/c/images --preset recnet_lite0 -o results/c
"""

import argparse
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_recnet.files import atomic_path
from keras_recnet.pipelines import Member, find_pairs, read_group_list, read_pair
from keras_recnet.pipelines.composites import KINDS, Composite, compose
from keras_recnet.pipelines.group_folders import file_name_of, write_mask

LIST = Path(__file__).with_suffix(".csv")
SEED = 0
TRIES = 100  # images per pair of groups


class Line(NamedTuple):
    """One composite: the kind, and the group and the image of each object."""

    kind: str
    first_group: str
    first: str
    second_group: str
    second: str


def draw(groups: Mapping[str, Sequence[Member]], read: Callable[[str], tuple]) -> list[Line]:
    """Draw the list of composites.

    Args:
        groups: group → its members, with categories.
        read: returns the image and the mask of a name.

    Raises:
        ValueError: if no two images of two groups make a composite.
    """
    random = np.random.default_rng(SEED)
    images = {
        group: itertools.cycle(random.permutation([member.name for member in members]).tolist())
        for group, members in groups.items()
    }
    category = {group: members[0].category or group for group, members in groups.items()}
    pairs = [pair for pair in itertools.combinations(groups, 2) if category[pair[0]] != category[pair[1]]]
    lines = []
    for number, index in enumerate(random.permutation(len(pairs))):
        kind = KINDS[number % len(KINDS)]
        first, second = random.permutation(pairs[index]).tolist()
        for _ in range(TRIES):  # an object may be too large or too small
            line = Line(kind, first, next(images[first]), second, next(images[second]))
            if composite(number, line, read) is not None:
                break
        else:
            raise ValueError(f"No images of the groups {first} and {second} make a {kind}.")
        lines.append(line)
    return lines


def composite(number: int, line: Line, read: Callable[[str], tuple]) -> Composite | None:
    """Make the composite of a line; the result depends only on its number, its names and the files."""
    random = np.random.default_rng((SEED, number))
    return compose(read(line.first), read(line.second), random, kinds=(line.kind,))


def write_folders(lines: Iterable[Line], read: Callable[[str], tuple], folder: Path) -> None:
    """Write each composite to both of its groups.

    Raises:
        ValueError: if the files are not those that the list was drawn from.
    """
    for number, line in enumerate(lines):
        made = composite(number, line, read)
        if made is None:
            raise ValueError(
                f"Line {number + 2} gives no composite. Are the images and masks those that the list was drawn from?"
            )
        for group, mask in ((line.first_group, made.first), (line.second_group, made.second)):
            name = f"{file_name_of(group)}/{number:03}_{line.kind}.png"
            with atomic_path(folder / "images" / name) as temporary:
                Image.fromarray(made.image).save(temporary, format="PNG")
            write_mask(mask, folder / "masks" / name)


def read_lines(path: Path) -> Iterator[Line]:
    """Read a list of composites."""
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Line(**row)


def write_lines(lines: Iterable[Line], path: Path) -> None:
    """Write a list of composites."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Line._fields)
        writer.writerows(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with `images` and `masks`")
    parser.add_argument("--list", type=Path, default=LIST, help="default: next to this script")
    parser.add_argument("--draw", type=Path, metavar="GROUPS", help="draw the list from a list of groups")
    parser.add_argument("--split", default="validation", help="split of the groups to draw from (default: validation)")
    parser.add_argument("--folders", type=Path, help="write the groups to this folder")
    arguments = parser.parse_args()
    pairs = {pair.name: pair for pair in find_pairs(arguments.data / "images", arguments.data / "masks")}

    def read(name):
        return read_pair(pairs[name])

    if arguments.draw:
        write_lines(draw(read_group_list(arguments.draw, split=arguments.split), read), arguments.list)
    lines = list(read_lines(arguments.list))
    groups = {group for line in lines for group in (line.first_group, line.second_group)}
    print(f"{len(groups)} groups, {len(lines)} composites in two groups each: {arguments.list}")
    if arguments.folders:
        write_folders(lines, read, arguments.folders / "c")


if __name__ == "__main__":
    main()
