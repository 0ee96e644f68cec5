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

from keras_recnet.training.sheets import draw

NEAR = 0.03
CELL = 160


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--names", type=Path, help="a file with one name a line; default: every map")
    parser.add_argument("--count", type=int, default=20, help="of the worst to draw and tell (default: 20)")
    parser.add_argument("-o", "--out", type=Path, default=Path("worst.png"))
    arguments = parser.parse_args()
    names = arguments.names.read_text().split() if arguments.names else [p.stem for p in arguments.maps.glob("*.png")]
    rows = sorted((measure(name, arguments.masks, arguments.maps) for name in names), reverse=True)
    errors = np.array([row[0] for row in rows])
    total = errors.sum()
    print(f"{len(rows)} images, MAE {errors.mean():.4f}; cut at 1/2: {np.mean([row[3] for row in rows]):.4f}")
    for share in (0.05, 0.1, 0.2):
        print(f"the worst {share:.0%} of them have {errors[: round(share * len(rows))].sum() / total:.0%} of the error")
    print(f"near the masks' edges lies {sum(row[2] for row in rows) / total:.0%} of the error")
    for error, name, near, _ in rows[: arguments.count]:
        print(f"{error:.3f}  {near / error:4.0%} near the edge  {name}")
    shown = [read_all(row[1], arguments) for row in rows[: arguments.count]]
    draw(*(np.stack(arrays) for arrays in zip(*shown, strict=True)), arguments.out)
    print(arguments.out)


def measure(name: str, masks: Path, maps: Path) -> tuple[float, str, float, float]:
    """Mean absolute error, the name, the part of the error near the edge, and the error of the map cut at 1/2."""
    mask = (grey(masks / f"{name}.png") > 0.5).astype(np.float32)
    saliency = grey(maps / f"{name}.png")
    error = np.abs(saliency - mask)
    reach = 2 * round(NEAR * max(mask.shape)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    near = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    return float(error.mean()), name, float((error * near).mean()), float(((saliency > 0.5) != mask).mean())


def read_all(name: str, arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, mask and map of a name, in the size that the sheet shows."""
    image = cv2.imread(str(next(arguments.images.glob(f"{name}.*"))))[..., ::-1]
    planes = (grey(folder / f"{name}.png")[..., None] for folder in (arguments.masks, arguments.maps))
    image, mask, saliency = (cv2.resize(x, (CELL, CELL), interpolation=cv2.INTER_AREA) for x in (image, *planes))
    return image.astype(np.float32), mask[..., None], saliency[..., None]


def grey(path: Path) -> np.ndarray:
    """A file as `(height, width)`, float32 in 0…1."""
    plane = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if plane is None:
        raise SystemExit(f"{path}: not there, or not readable as a picture.")
    return plane.astype(np.float32) / 255


if __name__ == "__main__":
    main()
