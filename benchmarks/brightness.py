"""Compare the brightness of objects in two methods' maps.

    python benchmarks/brightness.py MASKS MAPS OTHER_MAPS

For each mask with an object, divides the mean of the map over the object by that of the other map. Prints the
median ratio and how many ratios are below 0.25, 0.5 and 0.75.
"""

import argparse
from pathlib import Path

import numpy as np

from keras_recnet.evaluation.datasets import DataSet, pair
from keras_recnet.evaluation.map_files import load, read_map, read_mask
from keras_recnet.imaging.resizing import resize_map


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("masks", "maps", "other_maps"):
        parser.add_argument(name, type=Path, help="folder; files are matched by name")
    arguments = parser.parse_args()
    pairs = pair(DataSet("", arguments.masks, {"maps": arguments.maps, "other": arguments.other_maps}))
    for fault in pairs.faults:
        if fault.kind == "missing map":
            raise SystemExit(fault.message)
    ratios = []
    for name, path in pairs.masks.items():
        mask = read_mask(load(path), str(path))
        if mask.any():
            own, other = (mean_over(mask, maps[name]) for maps in pairs.maps.values())
            ratios.append(own / max(other, 1 / 255))
    ratios = np.array(ratios)
    below = ", ".join(f"{(ratios < limit).sum()} below {limit}" for limit in (0.25, 0.5, 0.75))
    print(f"{len(ratios)} objects: median {np.median(ratios):.2f}; {below}")


def mean_over(mask, path):
    """Return the mean of a map over the object, in 0…1."""
    saliency_map = read_map(load(path), str(path))[0].astype(np.float32)
    return resize_map(saliency_map, mask.shape)[mask].mean()


if __name__ == "__main__":
    main()
