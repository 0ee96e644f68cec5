"""Where a folder of maps is wrong: the images with the most error, drawn, and how much of all error is theirs.

    keras-recnet predict DUTS-TR/images -o maps
    python benchmarks/worst.py DUTS-TR/images DUTS-TR/masks maps --names DUTS-TR/validation.txt -o worst.png

Of each image's mean absolute error the part is told that lies near the mask's edge (within 3 % of the longer side), and
what the mean error would be if the maps were cut at 1/2: the rest is softness, not mistakes.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from keras_recnet.evaluation.datasets import DataSet, pair
from keras_recnet.evaluation.map_files import load, read_map, read_mask
from keras_recnet.training.sample_sheet import draw

NEAR = 0.03


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--names", type=Path, help="a file with one name a line; default: every mask")
    parser.add_argument("--count", type=int, default=20, help="of the worst to draw and tell (default: 20)")
    parser.add_argument("-o", "--out", type=Path, default=Path("worst.png"))
    arguments = parser.parse_args()
    found = pair(
        DataSet("", arguments.masks, {"maps": arguments.maps}, arguments.images, names=arguments.names),
        allow_missing=True,
    )
    maps = found.maps["maps"]
    rows = sorted((measure(name, *opened(found.masks[name], path)) for name, path in maps.items()), reverse=True)
    errors, _, near, cut = (np.array(column) for column in zip(*rows, strict=True))
    print(f"{len(rows)} images, MAE {errors.mean():.4f}; cut at 1/2: {cut.mean():.4f}")
    for share in (0.05, 0.1, 0.2):
        worst = errors[: round(share * len(rows))]
        print(f"the worst {share:.0%} of them have {worst.sum() / errors.sum():.0%} of the error")
    print(f"near the masks' edges lies {near.sum() / errors.sum():.0%} of the error")
    names = [name for _, name, *_ in rows[: arguments.count]]
    for place, name in enumerate(names):
        print(f"{errors[place]:.3f}  {near[place] / errors[place]:4.0%} near the edge  {name}")
    images = [cv2.imread(str(found.images[name]))[..., ::-1] for name in names]
    masks, drawn = zip(*(opened(found.masks[name], maps[name]) for name in names), strict=True)
    draw(images, *([plane[..., None] for plane in planes] for planes in (masks, drawn)), arguments.out)
    print(arguments.out)


def opened(mask: Path, saliency: Path) -> tuple[np.ndarray, np.ndarray]:
    """A mask, `(height, width)` of 0 and 1, and its map in 0…1."""
    return read_mask(load(mask), str(mask)).astype(np.float32), read_map(load(saliency), str(saliency))[0]


def measure(name: str, mask: np.ndarray, saliency: np.ndarray) -> tuple[float, str, float, float]:
    """Mean absolute error, the name, the part of the error near the edge, and the error of the map cut at 1/2."""
    error = np.abs(saliency - mask)
    reach = 2 * round(NEAR * max(mask.shape)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    near = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    return float(error.mean()), name, float((error * near).mean()), float(((saliency > 0.5) != mask).mean())


if __name__ == "__main__":
    main()
