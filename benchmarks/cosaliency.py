"""Time and memory of `keras_recnet.GroupPredictor` for groups of 10, 100 and 200 images, each in its own process.

    python benchmarks/cosaliency.py DUTS-TR/images
    python benchmarks/cosaliency.py                 # images of examples/photos, repeated

Prints seconds, milliseconds per image and peak memory, from files to maps with the shipped preset. The exit status is 1
if 100 images take more than 10.5 times as long as 10, or 200 images need over 10 % more memory than 10.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = (10, 100, 200)
ROUNDS = 3
MAX_TIME_RATIO, MAX_MEMORY_RATIO = 10.5, 1.1
EXAMPLES = Path(__file__).parents[1] / "examples" / "photos"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=EXAMPLES, help="folder of images (default: examples/photos)")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)  # measure one group in this process
    arguments = parser.parse_args()
    paths = sorted(path for path in Path(arguments.images).iterdir() if path.suffix in (".jpg", ".png"))
    if arguments.size:
        print(json.dumps(measure(paths, arguments.size)))
        return 0
    rows = {size: [] for size in SIZES}
    for _ in range(ROUNDS):  # interleaved, so that the load of the machine affects all sizes
        for size in SIZES:
            command = [sys.executable, __file__, arguments.images, "--size", str(size)]
            rows[size].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    seconds = {size: min(row["seconds"] for row in rows[size]) for size in SIZES}
    memory = {size: max(row["memory"] for row in rows[size]) for size in SIZES}
    for size in SIZES:
        per_image = 1000 * seconds[size] / size
        print(f"{size:4d} images: {seconds[size]:6.2f} s, {per_image:5.1f} ms per image, {memory[size]:.0f} MB")
    time_ratio, memory_ratio = seconds[100] / seconds[10], memory[200] / memory[10]
    print(f"100 images take {time_ratio:.2f} times as long as 10; 200 need {memory_ratio:.2f} times the memory of 10")
    return int(time_ratio > MAX_TIME_RATIO or memory_ratio > MAX_MEMORY_RATIO)


def measure(paths, size):
    """Return the seconds of a group, after a warm-up, and the peak memory of the process in MB."""
    from keras_recnet import GroupPredictor

    predictor = GroupPredictor()
    group = [paths[index % len(paths)] for index in range(size)]
    for _ in predictor.map(group[:2]):
        pass
    start = time.perf_counter()
    for result in predictor.map(group):
        assert result.saliency.ndim == 2
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    sys.exit(main())
