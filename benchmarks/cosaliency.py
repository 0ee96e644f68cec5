"""Time and memory of co-saliency over the size of the group: `keras_recnet.GroupPredictor`, one process a size.

    python benchmarks/cosaliency.py DUTS-TR/images

Groups of 10, 100 and 200 photographs from the folder, from files to maps, by the preset that ships. Ends with an error
if 100 take more than 10.5 times as long as 10, or 200 need more than a tenth more memory than 10.
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
MOST_TIME, MOST_MEMORY = 10.5, 1.1
EXAMPLES = Path(__file__).parents[1] / "examples" / "photos"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=EXAMPLES, help="folder of photographs (default: examples/photos)")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)  # of the group, in a process of its own
    arguments = parser.parse_args()
    paths = sorted(path for path in Path(arguments.images).iterdir() if path.suffix in (".jpg", ".png"))
    if arguments.size:
        print(json.dumps(measure(paths, arguments.size)))
        return 0
    rows = {size: [] for size in SIZES}
    for _ in range(ROUNDS):  # in turns, so that a busy moment meets all
        for size in SIZES:
            command = [sys.executable, __file__, arguments.images, "--size", str(size)]
            rows[size].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    best = {size: min(row["seconds"] for row in rows[size]) for size in SIZES}
    memory = {size: max(row["memory"] for row in rows[size]) for size in SIZES}
    for size in SIZES:
        each = 1000 * best[size] / size
        print(f"{size:4d} photographs: {best[size]:6.2f} s, {each:5.1f} ms each, {memory[size]:.0f} MB")
    longer, more = best[100] / best[10], memory[200] / memory[10]
    print(f"100 take {longer:.2f} times as long as 10; 200 need {more:.2f} times the memory of 10")
    return int(longer > MOST_TIME or more > MOST_MEMORY)


def measure(paths, size):
    """Seconds of a group with a network that is loaded and warm, and the peak memory of the process in MB."""
    from keras_recnet import GroupPredictor

    predictor = GroupPredictor()
    group = [paths[index % len(paths)] for index in range(size)]
    for _ in predictor.map(group[:2]):
        pass
    start = time.perf_counter()
    for found in predictor.map(group):
        assert found.saliency.ndim == 2
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    sys.exit(main())
