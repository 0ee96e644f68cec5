"""Throughput of `keras-recnet bulk` after start-up, compared with `Predictor.map` in one process and one thread.

    python benchmarks/bulk.py DUTS-TR/images

The two take turns, so that other load on the machine affects both equally. The exit status is 1 if an actor reaches
less than 80 % of `Predictor.map` in the median of the rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from keras_recnet import Predictor
from keras_recnet.bulk import cluster
from keras_recnet.bulk.inputs import Item
from keras_recnet.bulk.job import Job

MIN_RATIO = 0.8

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("images", type=Path, help="folder of images")
parser.add_argument("--count", type=int, default=2000)
parser.add_argument("--rounds", type=int, default=8)
parser.add_argument("--actors", type=int, default=1)


def main():
    arguments = parser.parse_args()
    found = sorted(map(str, arguments.images.glob("*.jpg")))
    paths = [found[index % len(found)] for index in range(arguments.count)]
    predictor, size = Predictor(threads=1), -(-len(paths) // arguments.rounds)
    ratios, totals = [], {"map": [0, 0.0], "bulk": [0, 0.0]}
    with cluster.connected(None):
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            rates = {"map": time_map(predictor, part), "bulk": time_bulk(part, arguments.actors)}
            for name, (images, seconds) in rates.items():
                totals[name] = [totals[name][0] + images, totals[name][1] + seconds]
            (a, b), (c, d) = rates["map"], rates["bulk"]
            ratios.append(c / d / (a / b) / arguments.actors)
            print(f"map {a / b:6.2f} images/s   bulk {c / d:6.2f} images/s   per actor {ratios[-1]:.0%}", flush=True)
    for name, (images, seconds) in totals.items():
        print(f"{name}: {images} images, {images / seconds:.2f} images/s")
    median = statistics.median(ratios)
    print(f"per actor, median of {len(ratios)} rounds: {median:.0%} of Predictor.map (limit {MIN_RATIO:.0%})")
    return 0 if median >= MIN_RATIO else 1


def time_map(predictor, paths):
    start = time.perf_counter()
    count = sum(1 for _ in predictor.map(paths, jobs=1))
    return count, time.perf_counter() - start


def time_bulk(paths, actors):
    """Return images and seconds after the first block, which includes the start of the actors."""
    items = [Item(f"{index} {path}", [path], [f"{index}.png"]) for index, path in enumerate(paths)]
    times = []
    with tempfile.TemporaryDirectory() as out:
        job = Job(items, out, "parquet", False, {"preset": "recnet_lite0"}, actors)
        for _ in job.run({}, advance=lambda images: times.append(time.perf_counter()), written=[]):
            pass
    # images of a block arrive together
    first = sum(moment - times[0] < 0.01 for moment in times)
    return len(times) - first, times[-1] - times[0]


if __name__ == "__main__":
    sys.exit(main())
