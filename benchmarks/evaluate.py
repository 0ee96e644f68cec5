"""How fast the evaluation scores: two of our processes against one process that calls pysodmetrics, in the same run.

    python benchmarks/evaluate.py MASKS MAPS
    python benchmarks/evaluate.py                   # 100 drawn pairs of 300×400

Both read the files, and give MAE, the F, E and PR curves, adaptive and weighted F and S of every pair; ours also gives
what only we have. They are measured in turns, so that whatever else the machine does slows both. Starting our processes
is not counted, as starting Python is not for pysodmetrics; reading pairs ahead is. The exit status is 1 when the
promise is not kept.
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

TIMES = 1.8


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
    ratios, shares, rates = [], [], []
    for _ in range(arguments.rounds):
        start, cpu = time.perf_counter(), time.process_time()
        by_pysodmetrics(files)
        alone, alone_cpu = time.perf_counter() - start, time.process_time() - cpu
        # The first results wait for the processes to start: what comes after them is measured.
        results = work(tasks[: 8 * arguments.jobs] + tasks, jobs=arguments.jobs)
        for _ in range(8 * arguments.jobs):
            next(results)
        start = time.perf_counter()
        assert sum(len(result.records) for result in results) == len(tasks)
        ours = time.perf_counter() - start
        cpu = time.process_time()
        for task in tasks:
            run_task(task)
        shares.append((time.process_time() - cpu) / alone_cpu)
        ratios.append(alone / ours)
        rates.append((len(files) / alone, len(files) / ours))
    alone, ours = (statistics.median(rate) for rate in zip(*rates, strict=True))
    ratio = statistics.median(ratios)
    print(f"one process, pysodmetrics:  {alone:.1f} pairs/s over {len(files)} pairs")
    print(f"{arguments.jobs} processes, ours:         {ours:.1f} pairs/s")
    print(f"times as fast:              {ratio:.2f} (at least {TIMES})")
    print(f"processor time of a pair:   {statistics.median(shares):.0%} of pysodmetrics'")
    return 0 if ratio >= TIMES else 1


def by_pysodmetrics(files):
    """As its own examples do it."""
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
    """100 pairs: a disk, and a soft and noisy map of it."""
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
