"""MAE, max F and S of a folder of maps against a folder of masks, by pysodmetrics at the masks' own size.

    keras-recnet predict ECSSD-100/images -o maps
    python benchmarks/accuracy.py maps ECSSD-100/masks [--names validation.txt]

A map belongs to the mask of the same name. Needs `pip install pysodmetrics`.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from py_sod_metrics import MAE, Fmeasure, Smeasure


def score(maps: Path, masks: Path, names: list[str] | None = None) -> dict[str, float]:
    """The means over all masks, or over those in `names`.

    Raises:
        FileNotFoundError: if a mask has no map, or there are no masks.
    """
    files = sorted(masks.glob("*.png")) if names is None else [masks / f"{name}.png" for name in names]
    if not files:
        raise FileNotFoundError(f"{masks}: holds no masks (.png)")
    metrics = {"mae": MAE(), "f": Fmeasure(), "s": Smeasure()}
    for file in files:
        mask, saliency = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (file, maps / file.name))
        if mask is None or saliency is None:
            raise FileNotFoundError(f"{file} or {maps / file.name}: missing or not readable")
        if saliency.shape != mask.shape:
            saliency = cv2.resize(saliency, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        for metric in metrics.values():
            metric.step(saliency, mask)
    results = {name: metric.get_results() for name, metric in metrics.items()}
    return {
        "MAE": float(results["mae"]["mae"]),
        "max F": float(np.max(results["f"]["fm"]["curve"])),
        "S": float(results["s"]["sm"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--names", type=Path, help="a file with the names to score, one a line")
    arguments = parser.parse_args()
    try:
        names = arguments.names.read_text(encoding="utf-8").split() if arguments.names else None
        results = score(arguments.maps, arguments.masks, names)
    except FileNotFoundError as error:
        sys.exit(str(error))
    print(", ".join(f"{name} {value:.4f}" for name, value in results.items()))


if __name__ == "__main__":
    main()
