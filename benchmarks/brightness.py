"""How bright a method leaves the objects, beside another method's maps.

    python benchmarks/brightness.py MASKS MAPS OTHER_MAPS

Of every mask with an object: the mean of the map over the object, divided by the mean of the other map there.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("masks", "maps", "other_maps"):
        parser.add_argument(name, type=Path, help="folder of PNG files, of the same names in all three")
    arguments = parser.parse_args()
    shares = []
    for path in sorted(arguments.masks.rglob("*.png")):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
        if mask.any():
            name = path.relative_to(arguments.masks)
            shares.append(mean_over(mask, arguments.maps / name) / max(mean_over(mask, arguments.other_maps / name), 1))
    shares = np.array(shares)
    below = ", ".join(f"{(shares < limit).sum()} below {limit}" for limit in (0.25, 0.5, 0.75))
    print(f"{len(shares)} objects: median {np.median(shares):.2f}; {below}")


def mean_over(mask, path):
    """The mean of a map, 0…255, where the mask is."""
    saliency_map = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if saliency_map is None:
        raise SystemExit(f"{path}: no such map. Make the maps of all masks first.")
    return cv2.resize(saliency_map, mask.shape[::-1])[mask].mean()


if __name__ == "__main__":
    main()
