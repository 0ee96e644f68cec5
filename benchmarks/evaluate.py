"""Speed of the evaluation with two processes, compared with one process that calls pysodmetrics.

    python benchmarks/evaluate.py MASKS MAPS
    python benchmarks/evaluate.py                   # 100 random 300×400 pairs

Prints speeds in pairs per second, their ratio, and the ratio of CPU times. Both read the files and compute MAE, F, E
and PR curves, adaptive and weighted F, and S; the evaluation also computes its own metrics. They take turns, so that
machine load affects both equally. The time to start the processes is not included. The exit status is 1 if the
evaluation is less than 1.8 times as fast.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import py_sod_metrics

from keras_recnet.evaluation.datasets import DataSet, pair
from keras_recnet.evaluation.workers import Task, run_task, work

MIN_RATIO = 1.8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("masks", nargs="?", help="folder of masks")
    parser.add_argument("maps", nargs="?", help="folder of maps")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        masks, maps = (arguments.masks, arguments.maps) if arguments.maps else draw(Path(folder))
        pairs = pair(DataSet("set", masks, {"maps": maps}), allow_missing=True)
        files = [(pairs.masks[name], path) for name, path in pairs.maps["maps"].items()]
        return measure(files, arguments)


def measure(files, arguments):
    tasks = [Task("set", str(number), mask, {"maps": saliency}, {}) for number, (mask, saliency) in enumerate(files)]
    cv2.setNumThreads(1)
    ratios, cpu_ratios, rates = [], [], []
    for _ in range(arguments.rounds):
        start, cpu = time.perf_counter(), time.process_time()
        by_pysodmetrics(files)
        reference, reference_cpu = time.perf_counter() - start, time.process_time() - cpu
        # The first results include the start of the processes and are not timed.
        results = work(tasks[: 8 * arguments.jobs] + tasks, jobs=arguments.jobs)
        for _ in range(8 * arguments.jobs):
            next(results)
        start = time.perf_counter()
        assert sum(len(result.records) for result in results) == len(tasks)
        own = time.perf_counter() - start
        cpu = time.process_time()
        for task in tasks:
            run_task(task)
        cpu_ratios.append((time.process_time() - cpu) / reference_cpu)
        ratios.append(reference / own)
        rates.append((len(files) / reference, len(files) / own))
    reference, own = (statistics.median(rate) for rate in zip(*rates, strict=True))
    ratio = statistics.median(ratios)
    print(f"pysodmetrics, 1 process:    {reference:.1f} pairs/s on {len(files)} pairs")
    print(f"evaluation, {arguments.jobs} processes:    {own:.1f} pairs/s")
    print(f"ratio:                      {ratio:.2f} (at least {MIN_RATIO})")
    print(f"CPU time per pair:          {statistics.median(cpu_ratios):.0%} of pysodmetrics")
    return 0 if ratio >= MIN_RATIO else 1


def by_pysodmetrics(files):
    """Score the pairs as in the examples of pysodmetrics."""
    handlers = {"fm": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)}
    handlers["precision"] = py_sod_metrics.PrecisionHandler(with_dynamic=True, with_adaptive=False)
    handlers["recall"] = py_sod_metrics.RecallHandler(with_dynamic=True, with_adaptive=False)
    metrics = [
        py_sod_metrics.FmeasureV2(handlers),
        py_sod_metrics.WeightedFmeasure(),
        py_sod_metrics.Smeasure(),
        py_sod_metrics.Emeasure(),
        py_sod_metrics.MAE(),
    ]
    for paths in files:
        mask, saliency = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths)
        for metric in metrics:
            metric.step(saliency, mask)
    return [metric.get_results() for metric in metrics]


def draw(folder):
    """Draw 100 random disk masks, each with a soft, noisy map."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:300, :400]
    for number in range(100):
        row, column, radius = random.uniform(80, 220), random.uniform(100, 300), random.uniform(20, 90)
        distance = np.hypot(rows - row, columns - column) / radius
        saliency = 1 / (1 + np.exp(6 * (distance - random.uniform(0.8, 1.2)))) + random.normal(0, 0.02, distance.shape)
        for name, values in ("masks", distance < 1), ("maps", np.clip(saliency, 0, 1)):
            path = folder / name / f"{number:03}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), (values * 255).astype(np.uint8))
    return folder / "masks", folder / "maps"


if __name__ == "__main__":
    sys.exit(main())
