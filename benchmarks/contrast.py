"""Raise the contrast of saliency maps: max(2s - 1, 0). A rival without parameters for the fusion `subtract`.

    python benchmarks/contrast.py MAPS OUT

Writes the changed PNG files of a folder to another folder.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet.evaluation.map_files import load, read_map


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("maps", "out"):
        parser.add_argument(name, type=Path, help="folder")
    arguments = parser.parse_args()
    paths = sorted(arguments.maps.glob("*.png"))
    if not paths:
        raise SystemExit(f"{arguments.maps}: there are no PNG files.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        saliency_map, _ = read_map(load(path), str(path))
        changed = np.round(255 * np.clip(2 * saliency_map - 1, 0, 1))
        Image.fromarray(changed.astype(np.uint8)).save(arguments.out / path.name)


if __name__ == "__main__":
    main()
