"""Throughput of the training pipeline in images per second, from memory and from disk.

    python benchmarks/pipeline.py DUTS-TR/images DUTS-TR/masks
    python benchmarks/pipeline.py          # 200 images of 400×300, cropped from examples/photos

`busy` is the CPU time per image over all threads, which depends little on the load of the machine.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image

from keras_recnet.pipelines import Augment, SaliencyPairs, check_pairs, find_pairs

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder of images")
    parser.add_argument("masks", nargs="?", help="folder of masks")
    parser.add_argument("--pairs", type=int, default=1000, help="number of pairs (default: 1000)")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--cache-size", type=int, default=272)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="seconds per measurement (default: 10)")
    arguments = parser.parse_args()
    if arguments.images and not arguments.masks:
        parser.error("a folder of images needs a folder of masks")
    with tempfile.TemporaryDirectory() as folder:
        images, masks = (arguments.images, arguments.masks) if arguments.images else make_pairs(Path(folder))
        measure(find_pairs(images, masks)[: arguments.pairs], arguments)


def measure(pairs, arguments):
    size, batch = arguments.image_size, arguments.batch_size
    print(f"{len(pairs)} pairs, {size}×{size}, batches of {batch}, {arguments.workers} workers")
    print(f"{'':<24}{'images/s':>10}{'busy ms/image':>16}")
    with Row("headers checked", len(pairs)):
        check_pairs(pairs, workers=arguments.workers)
    make = {"image_size": size, "batch_size": batch, "augment": Augment(), "workers": arguments.workers}
    with Row("memory: filling", len(pairs)):
        memory = SaliencyPairs(pairs, cache="memory", cache_size=arguments.cache_size, **make)
    for name, data in (("memory: batches", memory), ("disk: batches", SaliencyPairs(pairs, cache=None, **make))):
        batches = iter(data.training(10**6))
        next(batches)  # starting the threads is not measured
        with Row(name) as row:
            while time.perf_counter() - row.start < arguments.seconds:
                row.images += len(next(batches)[0])


class Row:
    """Time a block and print its row of the table."""

    def __init__(self, name, images=0):
        self.name, self.images = name, images

    def __enter__(self):
        self.start, self.busy = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error):
        seconds, busy = time.perf_counter() - self.start, time.process_time() - self.busy
        print(f"{self.name:<24}{self.images / seconds:>10.0f}{busy / self.images * 1000:>16.2f}", flush=True)


def make_pairs(folder, count=200, size=(400, 300)):
    """Save random crops of the example photos as JPEG, each with a disc as its mask."""
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    random = np.random.default_rng(0)
    y, x = np.mgrid[: size[1], : size[0]]
    mask = Image.fromarray(((x - 200) ** 2 + (y - 150) ** 2 < 100**2).astype(np.uint8) * 255)
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    for number in range(count):
        photo = photos[number % len(photos)]
        left, top = random.random(2) * 0.3 * photo.size
        cut = (left, top, left + 0.7 * photo.width, top + 0.7 * photo.height)
        photo.resize(size, Image.Resampling.BILINEAR, box=cut).save(images / f"{number:03}.jpg", quality=90)
        mask.save(masks / f"{number:03}.png")
    return images, masks


if __name__ == "__main__":
    main()
