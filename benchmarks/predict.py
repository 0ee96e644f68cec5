"""Speed of prediction: a cold start of the command line, and a warm `Predictor` compared with its interpreter.

    python benchmarks/predict.py ECSSD-100/images
    python benchmarks/predict.py                    # 100 images of 400×300, cropped from examples/photos

Prints time and memory of a cold start, images per second of the interpreter and of the `Predictor`, their ratio, and
the time for a 12-megapixel photo. The interpreter gets decoded images of its input size; the `Predictor` reads, decodes
and resizes files and returns maps of the original size. They take turns, so that the load of the machine affects both.
The exit status is 1 if a limit is exceeded.
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
MAX_SECONDS, MAX_MEGABYTES, MIN_RATIO = 1.5, 400, 0.8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder of images")
    parser.add_argument("--preset", default="recnet_lite0")
    parser.add_argument("--threads", type=int, help="threads of the interpreter (default: number of cores)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The cold start comes first, because the peak memory of a child includes that of its parent at the fork.
        passed = [cold(arguments.preset, Path(folder))]
        images = sorted(Path(arguments.images).iterdir()) if arguments.images else make_images(Path(folder))
        passed.append(warm(arguments, images))
        large(arguments.preset, Path(folder))
    return 0 if all(passed) else 1


def cold(preset, folder):
    """Predict one photo with a new process; the median of five runs."""
    photo = next(iter(sorted(PHOTOS.glob("*.jpg"))))
    command = [sys.executable, "-m", "keras_recnet", "predict", photo, "-o", folder / "cold", "--preset", preset]
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
    median, peak = statistics.median(seconds), max(peaks)
    print(f"cold start, one photo:      {median:.2f} s (limit {MAX_SECONDS}), {peak:.0f} MB (limit {MAX_MEGABYTES})")
    return median < MAX_SECONDS and peak < MAX_MEGABYTES


def warm(arguments, images):
    from keras_recnet import Predictor
    from keras_recnet.imaging.reading import read

    predictor = Predictor(arguments.preset, engine="litert", threads=arguments.threads)
    network = predictor.engine
    decoded = [read(image, fit=network.size).rgb for image in images]
    for _ in predictor.map(images[:10]):
        pass
    interpreter, whole = [], []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for rgb in decoded:
            network(rgb)
        interpreter.append(len(images) / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in predictor.map(images):
            pass
        whole.append(len(images) / (time.perf_counter() - start))
    ratio = statistics.median(own / reference for own, reference in zip(whole, interpreter, strict=True))
    print(f"interpreter only:           {statistics.median(interpreter):.1f} images/s ({predictor})")
    print(f"Predictor, file to array:   {statistics.median(whole):.1f} images/s on {len(images)} files")
    print(f"ratio:                      {ratio:.0%} (at least {MIN_RATIO:.0%})")
    return ratio >= MIN_RATIO


def large(preset, folder):
    """Predict a 12-megapixel JPEG, from file to array, mask file and cutout file."""
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
    """Write 100 images of 400×300, different crops of the photos in examples/."""
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
