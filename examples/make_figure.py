"""Make the README's figures: photos with their saliency maps and cutouts, and a group with its co-saliency maps.

.venv/bin/python examples/make_figure.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet import GroupPredictor, Predictor
from keras_recnet.imaging.cutout import cutout
from keras_recnet.imaging.drawing import to_8_bits

ROOT = Path(__file__).parents[1]
PHOTOS = ("astronaut", "cat", "flower", "coffee")
HEIGHT, GROUP_HEIGHT, GAP, PAPER = 240, 200, 8, (255, 255, 255)


def on_paper(rgba: np.ndarray) -> Image.Image:
    image = Image.fromarray(rgba)
    return Image.alpha_composite(Image.new("RGBA", image.size, (*PAPER, 255)), image).convert("RGB")


def gray(saliency_map: np.ndarray) -> Image.Image:
    return Image.fromarray(to_8_bits(saliency_map)).convert("RGB")


def column(predictor: Predictor, path: Path) -> list[Image.Image]:
    """Return a photo, its map and its cutout."""
    photo = Image.open(path).convert("RGB")
    saliency_map = predictor(photo)
    return [photo, gray(saliency_map), on_paper(cutout(np.asarray(photo), saliency_map))]


def save(columns: list[list[Image.Image]], height: int, name: str):
    """Save columns of pictures; all pictures of a row have the same height."""
    widths = [round(height * pictures[0].width / pictures[0].height) for pictures in columns]
    rows = len(columns[0])
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), rows * (height + GAP) - GAP), PAPER)
    left = 0
    for pictures, width in zip(columns, widths, strict=True):
        for row, picture in enumerate(pictures):
            sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, row * (height + GAP)))
        left += width + GAP
    path = ROOT / "docs" / "assets" / name
    sheet.save(path, quality=88, optimize=True)
    print(path)


def main():
    predictor = Predictor()
    save([column(predictor, ROOT / "examples" / "photos" / f"{name}.jpg") for name in PHOTOS], HEIGHT, "maps.jpg")
    photos = [Image.open(path).convert("RGB") for path in sorted((ROOT / "examples" / "group").glob("*.jpg"))]
    maps = zip(photos, map(predictor, photos), GroupPredictor()(photos), strict=True)
    save([[photo, gray(alone), gray(group)] for photo, alone, group in maps], GROUP_HEIGHT, "group.jpg")


if __name__ == "__main__":
    main()
