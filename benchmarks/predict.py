"""How fast prediction is: cold from the command line, warm from files to arrays against the bare interpreter.

    python benchmarks/predict.py ECSSD-100/images
    python benchmarks/predict.py                    # 100 pictures of 400×300, cut from examples/photos

Interpreter and `Predictor` are measured in turns, so that whatever else the machine does slows both. The interpreter
gets pictures that are already decoded and of its size; the Predictor reads, decodes and resizes, and gives maps of the
pictures' own size. The exit status is 1 when one of the library's promises is not kept.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
COLD_SECONDS, COLD_MEGABYTES, WARM_SHARE = 1.5, 400, 0.8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder of images")
    parser.add_argument("--preset", default="recnet_lite0")
    parser.add_argument("--threads", type=int, help="of the interpreter (default: cores)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = [
            cold(arguments.preset, Path(folder))
        ]  # first: a child's peak counts what its parent held when it forked
        images = sorted(Path(arguments.images).iterdir()) if arguments.images else make_images(Path(folder))
        kept.append(warm(arguments, images))
        large(arguments.preset, Path(folder))
    return 0 if all(kept) else 1


def cold(preset, folder):
    """One photo by the command line, started anew: the median of five."""
    photo = next(iter(sorted(PHOTOS.glob("*.jpg"))))
    start = [sys.executable, "-m", "keras_recnet"]
    command = [*start, "predict", photo, "-o", folder / "cold", "--preset", preset]
    seconds, peaks = [], []
    for _ in range(5):
        start = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - start)
        peaks.append(usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3))
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(map(str, command))} failed")
    second, peak = statistics.median(seconds), max(peaks)
    print(f"cold predict of one photo:  {second:.2f} s (limit {COLD_SECONDS}), {peak:.0f} MB (limit {COLD_MEGABYTES})")
    return second < COLD_SECONDS and peak < COLD_MEGABYTES


def warm(arguments, images):
    from keras_recnet import Predictor
    from keras_recnet.imaging.reading import read

    predictor = Predictor(arguments.preset, engine="litert", threads=arguments.threads)
    network = predictor.engine
    decoded = [read(image, fit=network.size).rgb for image in images]
    for _ in predictor.map(images[:10]):
        pass
    bare, whole = [], []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for rgb in decoded:
            network(rgb)
        bare.append(len(images) / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in predictor.map(images):
            pass
        whole.append(len(images) / (time.perf_counter() - start))
    share = statistics.median(one / other for one, other in zip(whole, bare, strict=True))
    print(f"bare interpreter:           {statistics.median(bare):.1f} pictures/s ({predictor})")
    print(f"Predictor, file to array:   {statistics.median(whole):.1f} pictures/s over {len(images)} files")
    print(f"share of the bare rate:     {share:.0%} (at least {WARM_SHARE:.0%})")
    return share >= WARM_SHARE


def large(preset, folder):
    """A JPEG of 12 megapixels, from file to map and from file to cutout."""
    from PIL import Image

    from keras_recnet import Predictor
    from keras_recnet.inference.inputs import ImageJob
    from keras_recnet.inference.outputs import OutputWriter, write_maps

    photo = folder / "large.jpg"
    Image.open(next(iter(sorted(PHOTOS.glob("*.jpg"))))).convert("RGB").resize((4000, 3000)).save(photo, quality=90)
    predictor = Predictor(preset, engine="litert")

    def write(kind):
        job = ImageJob(str(photo), {kind: folder / f"{kind}.png"})
        list(write_maps(predictor, [job], OutputWriter(), workers=1))

    for name, work in (
        ("file to array", lambda: predictor(photo)),
        ("file to mask file", lambda: write("mask")),
        ("file to cutout file", lambda: write("cutout")),
    ):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        print(f"12-megapixel photo:         {min(seconds):.2f} s {name}")


def make_images(folder):
    """100 pictures of 400×300, different cuts of the photographs in examples/."""
    from PIL import Image

    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    (folder / "images").mkdir()
    for number in range(100):
        photo = photos[number % len(photos)]
        box = (number % 10, number % 7, photo.width - number % 11, photo.height - number % 13)
        photo.resize((400, 300), box=box).save(folder / "images" / f"{number:03}.jpg", quality=90)
    return sorted((folder / "images").iterdir())


if __name__ == "__main__":
    sys.exit(main())
