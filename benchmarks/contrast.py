"""Raise the contrast of saliency maps: max(2s - 1, 0). A rival without parameters for the fusion `subtract`.

python benchmarks/contrast.py MAPS OUT
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main(maps: Path, out: Path) -> None:
    """Write the changed maps of a folder to another folder."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(maps.glob("*.png")):
        saliency = np.asarray(Image.open(path).convert("L"), np.float64) / 255
        Image.fromarray(np.uint8(np.round(255 * np.clip(2 * saliency - 1, 0, 1)))).save(out / path.name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    main(Path(sys.argv[1]), Path(sys.argv[2]))
