"""Show where a folder of maps is wrong: draw the images with the largest error, and print how the error is distributed.

    keras-recnet predict DUTS-TR/images -o maps
    python benchmarks/worst.py DUTS-TR/images DUTS-TR/masks maps --names DUTS-TR/validation.txt

Prints the mean absolute error (MAE), the MAE after thresholding the maps at 0.5 (the difference is softness, not
mistakes), the share of the error in the worst images, and the share near the edges of the masks (within 3 % of the
longer side). Writes the worst images with their masks and maps to one PNG file, by default in the ignored folder runs.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from keras_recnet.evaluation.datasets import DataSet, pair
from keras_recnet.evaluation.map_files import load, read_map, read_mask
from keras_recnet.training.sample_sheet import draw

EDGE = 0.03


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--names", type=Path, help="file with one name per line (default: all masks)")
    parser.add_argument("--count", type=int, default=20, help="number of images to draw and print (default: 20)")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/worst.png"))
    arguments = parser.parse_args()
    data_set = DataSet("", arguments.masks, {"maps": arguments.maps}, arguments.images, names=arguments.names)
    pairs = pair(data_set, allow_missing=True)
    maps = pairs.maps["maps"]
    rows = sorted((measure(name, *open_pair(pairs.masks[name], path)) for name, path in maps.items()), reverse=True)
    errors, _, edge_errors, thresholded = (np.array(column) for column in zip(*rows, strict=True))
    print(f"{len(rows)} images, MAE {errors.mean():.4f}; thresholded at 0.5: {thresholded.mean():.4f}")
    for share in (0.05, 0.1, 0.2):
        worst = errors[: round(share * len(rows))]
        print(f"the worst {share:.0%} of the images have {worst.sum() / errors.sum():.0%} of the error")
    print(f"{edge_errors.sum() / errors.sum():.0%} of the error is near the edges of the masks")
    names = [name for _, name, *_ in rows[: arguments.count]]
    for index, name in enumerate(names):
        print(f"{errors[index]:.3f}  {edge_errors[index] / errors[index]:4.0%} near the edge  {name}")
    images = [cv2.imread(str(pairs.images[name]))[..., ::-1] for name in names]
    masks, saliency = zip(*(open_pair(pairs.masks[name], maps[name]) for name in names), strict=True)
    draw(images, *([plane[..., None] for plane in planes] for planes in (masks, saliency)), arguments.out)
    print(arguments.out)


def open_pair(mask: Path, saliency: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask, float `(height, width)` of 0 and 1, and its map in 0…1."""
    return read_mask(load(mask), str(mask)).astype(np.float32), read_map(load(saliency), str(saliency))[0]


def measure(name: str, mask: np.ndarray, saliency: np.ndarray) -> tuple[float, str, float, float]:
    """Return the MAE, the name, the MAE near the edge only, and the MAE of the map thresholded at 0.5."""
    error = np.abs(saliency - mask)
    width = 2 * round(EDGE * max(mask.shape)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    edge = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    return float(error.mean()), name, float((error * edge).mean()), float(((saliency > 0.5) != mask).mean())


if __name__ == "__main__":
    main()
