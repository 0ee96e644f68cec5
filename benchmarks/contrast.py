"""Change the contrast of saliency maps: a rival without parameters for changes of the network.

    python benchmarks/contrast.py MAPS OUT                     # max(2s - 1, 0), the rival of the fusion `subtract`
    python benchmarks/contrast.py MAPS OUT --temperature 0.5   # sigmoid(logit(s) / temperature)

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
    parser.add_argument("--temperature", type=float, help="below 1 raises the contrast, above 1 lowers it")
    arguments = parser.parse_args()
    paths = sorted(arguments.maps.glob("*.png"))
    if not paths:
        raise SystemExit(f"{arguments.maps}: there are no PNG files.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        saliency_map, _ = read_map(load(path), str(path))
        if arguments.temperature is None:
            changed = np.clip(2 * saliency_map - 1, 0, 1)
        else:
            odds = np.divide(
                saliency_map, 1 - saliency_map, out=np.full_like(saliency_map, np.inf), where=saliency_map < 1
            )
            odds **= 1 / arguments.temperature
            changed = 1 - 1 / (1 + odds)
        Image.fromarray(np.round(255 * changed).astype(np.uint8)).save(arguments.out / path.name)


if __name__ == "__main__":
    main()
