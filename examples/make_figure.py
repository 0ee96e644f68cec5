"""Make the README's figure: photos, their saliency maps and cutouts.

.venv/bin/python examples/make_figure.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet import Predictor
from keras_recnet.imaging.cutout import cutout
from keras_recnet.imaging.drawing import to_8_bits

ROOT = Path(__file__).parents[1]
PHOTOS = ("astronaut", "cat", "flower", "coffee")
HEIGHT, GAP, PAPER = 240, 8, (255, 255, 255)


def on_paper(rgba: np.ndarray) -> Image.Image:
    image = Image.fromarray(rgba)
    return Image.alpha_composite(Image.new("RGBA", image.size, (*PAPER, 255)), image).convert("RGB")


def column(predictor: Predictor, path: Path) -> list[Image.Image]:
    """Return a photo, its map and its cutout, all of the same height."""
    photo = Image.open(path).convert("RGB")
    saliency_map = predictor(photo)
    pictures = [
        photo,
        Image.fromarray(to_8_bits(saliency_map)).convert("RGB"),
        on_paper(cutout(np.asarray(photo), saliency_map)),
    ]
    width = round(HEIGHT * photo.width / photo.height)
    return [picture.resize((width, HEIGHT), Image.Resampling.LANCZOS) for picture in pictures]


def main():
    predictor = Predictor()
    columns = [column(predictor, ROOT / "examples" / "photos" / f"{name}.jpg") for name in PHOTOS]
    widths = [pictures[0].width for pictures in columns]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), 3 * HEIGHT + 2 * GAP), PAPER)
    left = 0
    for pictures, width in zip(columns, widths, strict=True):
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (left, row * (HEIGHT + GAP)))
        left += width + GAP
    path = ROOT / "docs" / "assets" / "maps.jpg"
    path.parent.mkdir(exist_ok=True)
    sheet.save(path, quality=88, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
