"""What a race gave, as numbers that a program reads."""

import datetime
import os
import platform
import statistics

import keras_recnet
from keras_recnet.bench.benchmark import Result, Rules
from keras_recnet.bench.candidates import PRODUCT
from keras_recnet.parallel import cores


def report(results: list[Result], rules: Rules, *, interrupted: bool = False) -> dict:
    """One object for JSON.

    Times are of one picture, in milliseconds; p50 is the median, p90 what nine of ten runs keep within, and `processor`
    the median of what all threads together spent on the processor, which other programs stretch least. Memory is in
    bytes. `times_as_fast_as` divides the p50 of each `--against` by the contestant's own; `gflops` divides the
    operations by p50, and `of_product` that by the matrix product's.
    """
    rows = [_contestant(result) for result in results]
    for row in rows:
        _compare(row, rows)
    return {
        "keras_recnet": keras_recnet.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cores": cores(), "system": platform.platform(terse=True)},
        "python": platform.python_version(),
        "threads": rules.threads,
        "burst": rules.burst,
        "interrupted": interrupted,
        "contestants": rows,
    }


def processor() -> str:
    """The name of the processor's model."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):  # not Linux, or not on x86
        return platform.processor() or platform.machine()


def _contestant(result):
    one = result.contestant
    return {
        "network": one.network,
        "engine": one.engine,
        "precision": one.precision,
        "source": os.path.abspath(one.source) if one.engine != PRODUCT else None,
        "peer": one.is_peer,
        "input_shape": result.facts.get("input_shape"),
        "device": result.facts.get("device"),
        "threads": result.facts.get("threads"),
        "versions": result.facts.get("versions", {}),
        "bytes": one.bytes,
        "memory": result.memory,
        "parts": {part: _part(part, seconds, result) for part, seconds in result.seconds.items()},
        "throughput": _throughput(result.bursts),
        "error": result.error,
    }


def _part(part, seconds, result):
    if not seconds:
        return {"runs": 0}
    operations = result.operations.get(part)
    p50 = statistics.median(seconds)
    p90 = statistics.quantiles(seconds, n=10, method="inclusive")[-1] if len(seconds) > 1 else p50
    return {
        "runs": len(seconds),
        "p50": 1e3 * p50,
        "p90": 1e3 * p90,
        "processor": 1e3 * statistics.median(result.processor[part]),
        "times": [1e3 * value for value in seconds],
        "operations": operations,
        "gflops": operations and operations / p50 / 1e9,
    }


def _throughput(bursts):
    if not bursts:
        return None
    return {"pictures_per_second": statistics.median(bursts), "bursts": bursts}


def _compare(row, rows):
    """Sets the whole of a contestant beside the whole of each peer, and its rate beside the product's."""
    whole = last_part(row)
    for peer in rows:
        theirs = last_part(peer)
        if whole is None or theirs is None or peer is row:
            continue
        if peer["peer"]:
            whole.setdefault("times_as_fast_as", {})[peer["network"]] = theirs["p50"] / whole["p50"]
        if peer["engine"] == PRODUCT and theirs["gflops"]:
            for part in row["parts"].values():
                if part.get("gflops"):
                    part["of_product"] = part["gflops"] / theirs["gflops"]


def last_part(row: dict) -> dict | None:
    """The numbers of a contestant's whole network; None: it was not run."""
    *_, whole = [None, *row["parts"].values()]
    return whole if whole and whole["runs"] else None
