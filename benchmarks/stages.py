"""CPU time of `keras-recnet bulk` per photo: decoding, the network, and the map's resizing, box and encoding.

    python benchmarks/stages.py
    python benchmarks/stages.py --price 0.04 --count 100e6    # plans the cost of an archive

The photos are JPEG files of 1 and 12 megapixels, made from examples/photos: enlarged, with camera noise added, at
quality 90. CPU time is measured, not elapsed time, so other programs on the machine have little effect.
"""

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet import Predictor
from keras_recnet.imaging.drawing import to_8_bits
from keras_recnet.imaging.objects import object_box
from keras_recnet.imaging.reading import read
from keras_recnet.imaging.resizing import resize_map
from keras_recnet.imaging.writing import encode

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
SIZES = {"1 megapixel": (864, 1152), "12 megapixels": (3000, 4000)}
NOISE = 4  # standard deviation, for values in 0…255

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--preset", default="recnet_lite0")
parser.add_argument("--rounds", type=int, default=5, help="rounds over all photos")
parser.add_argument("--price", type=float, default=0.04, help="price of a core-hour, an assumption")
parser.add_argument("--count", type=float, default=100e6, help="number of photos of an archive")


def main():
    arguments = parser.parse_args()
    predictor = Predictor(arguments.preset, threads=1)
    for name, size in SIZES.items():
        files = [photo(path, size) for path in sorted(PHOTOS.glob("*.jpg"))]
        measure(predictor, files[0])  # warm-up
        runs = [measure(predictor, file) for _ in range(arguments.rounds) for file in files]
        stages = {stage: statistics.median(times[stage] for times, _ in runs) for stage in runs[0][0]}
        seconds = sum(stages.values())
        kilobytes = statistics.mean(len(file) for file in files) / 1e3, statistics.mean(size for _, size in runs) / 1e3
        print(f"{name}: JPEG {kilobytes[0]:.0f} kB, PNG of the map {kilobytes[1]:.0f} kB")
        for stage, value in stages.items():
            print(f"  {stage:<22} {1e3 * value:7.1f} ms  {value / seconds:4.0%}")
        print(f"  {'total':<22} {1e3 * seconds:7.1f} ms        {1 / seconds:.1f} photos per second and core")
        for millions in (1, arguments.count / 1e6):
            hours = millions * 1e6 * seconds / 3600
            print(f"  {millions:g} million photos: {hours:,.0f} core-hours, {arguments.price * hours:,.2f}")


def photo(path, size):
    """Return a JPEG file of a photo, enlarged and cropped to `size`, with noise."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        scale = max(size[0] / image.height, size[1] / image.width)
        image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC)
    rgb = np.asarray(image)[: size[0], : size[1]].astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(rgb.shape, np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(rgb + NOISE * noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure(predictor, file):
    """Return the CPU seconds of each stage, and the bytes of the map."""
    times = [time.process_time()]
    decoded = read(file, fit=predictor.engine.size)
    times.append(time.process_time())
    saliency_map = predictor.engine(decoded.rgb)
    times.append(time.process_time())
    saliency_map = resize_map(saliency_map, decoded.size)
    times.append(time.process_time())
    object_box(saliency_map), saliency_map.mean()
    times.append(time.process_time())
    size = len(encode(to_8_bits(saliency_map)))
    times.append(time.process_time())
    stages = ("decode and shrink", "network", "enlarge the map", "box and mean", "encode the map (PNG)")
    return dict(zip(stages, np.diff(times), strict=True)), size


if __name__ == "__main__":
    main()
