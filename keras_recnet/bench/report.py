"""Report of a benchmark, as JSON and as a table."""

import datetime
import os
import platform
import statistics

import keras_recnet
from keras_recnet.bench.benchmark import Result, Settings
from keras_recnet.bench.candidates import PRODUCT
from keras_recnet.bench.networks import GROUP
from keras_recnet.parallel import cores

TEXT_COLUMNS = 5  # the first columns; the others are numbers
NOTHING = "–"


def report(results: list[Result], settings: Settings, *, interrupted: bool = False) -> dict:
    """Return the report as an object that can be written as JSON.

    Times are in milliseconds per image: p50 is the median, p90 the 90th percentile, and `processor` the median CPU time
    of all threads, which depends least on other programs. Memory is in bytes. `times_as_fast_as` is the p50 of each
    peer divided by the candidate's own. `gflops` is the number of operations divided by p50, and `of_product` its ratio
    to the `gflops` of the matrix product.
    """
    rows = [_candidate(result) for result in results]
    for row in rows:
        _compare(row, rows)
    return {
        "keras_recnet": keras_recnet.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cores": cores(), "system": platform.platform(terse=True)},
        "python": platform.python_version(),
        "threads": settings.threads,
        "burst": settings.burst,
        "interrupted": interrupted,
        "candidates": rows,
    }


def processor() -> str:
    """Return the model name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()


def heading(report: dict) -> str:
    """Describe the machine and the date in one line."""
    machine, threads = report["machine"], report["threads"]
    return f"{machine['processor']}, {machine['cores']} cores; {threads} thread{'s' * (threads > 1)}; {report['date']}"


def notes(report: dict) -> list[str]:
    """Explain the columns of the table."""
    lines = [
        "p50, p90: ms per image, network only, without decoding and resizing.",
        "CPU: median CPU time of all threads in ms per image, including the time that they wait for each other.",
    ]
    if any(row["throughput"] for row in report["candidates"]):
        lines.append(f"images/s: throughput on {report['burst']} images, using all threads.")
    lines.append("memory: peak memory of the process while running one image at a time.")
    if any(GROUP in row["parts"] for row in report["candidates"]):
        lines.append("encode, step, decode: parts of a group, per image; group: a whole group, divided by its images.")
    if any(row["engine"] == PRODUCT for row in report["candidates"]):
        lines.append("GFLOP/s: floating-point operations of convolutions and matrix products, divided by p50.")
    return lines


def cells(report: dict) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the table, one row per part of each candidate."""
    rows = report["candidates"]
    peers = list(dict.fromkeys(row["network"] for row in rows if row["peer"]))
    has_rate = any(row["engine"] == PRODUCT for row in rows)
    header = ["network", "engine", "precision", "input", "part", "p50", "p90", "CPU", "images/s", "memory", "size"]
    header += [f"× {peer}" for peer in peers] + (["GFLOP/s", "of product"] if has_rate else [])
    return header, [line for row in rows for line in _lines(row, peers, has_rate)]


def plain(header: list[str], rows: list[list[str]]) -> str:
    """Format the table as plain text with right-aligned numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if index < TEXT_COLUMNS else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, *rows]
    )


def rich(header: list[str], rows: list[list[str]]):
    """Return the table as a `rich.table.Table` for a terminal."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, head in enumerate(header):
        is_text = index < TEXT_COLUMNS
        table.add_column(head, justify="left" if is_text else "right", no_wrap=not is_text)
    for row in rows:
        table.add_row(*row)
    return table


def _candidate(result):
    candidate = result.candidate
    return {
        "network": candidate.network,
        "engine": candidate.engine,
        "precision": candidate.precision,
        "source": os.path.abspath(candidate.source) if candidate.engine != PRODUCT else None,
        "peer": candidate.is_peer,
        "input_shape": result.facts.get("input_shape"),
        "device": result.facts.get("device"),
        "threads": result.facts.get("threads"),
        "versions": result.facts.get("versions", {}),
        "bytes": candidate.bytes,
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
    return {"images_per_second": statistics.median(bursts), "bursts": bursts}


def _compare(row, rows):
    """Add the speed relative to each peer and to the matrix product."""
    whole = _last_part(row)
    for peer in rows:
        theirs = _last_part(peer)
        if whole is None or theirs is None or peer is row:
            continue
        if peer["peer"]:
            whole.setdefault("times_as_fast_as", {})[peer["network"]] = theirs["p50"] / whole["p50"]
        if peer["engine"] == PRODUCT and theirs["gflops"]:
            for part in row["parts"].values():
                if part.get("gflops"):
                    part["of_product"] = part["gflops"] / theirs["gflops"]


def _last_part(row):
    """Return the measurements of the whole network, which is the last part; None if it did not run."""
    *_, whole = [None, *row["parts"].values()]
    return whole if whole and whole["runs"] else None


def _lines(row, peers, has_rate):
    shape = "×".join(map(str, row["input_shape"] or ()))
    parts = row["parts"] or {NOTHING: {"runs": 0}}
    for index, (name, part) in enumerate(parts.items(), start=1):
        first, last = index == 1, index == len(parts)
        memory = row["memory"].get("latency")
        line = [row["network"], row["engine"], row["precision"], shape or NOTHING, name]
        line += [_number(part.get(key)) for key in ("p50", "p90", "processor")]
        line += [_number(row["throughput"] and row["throughput"]["images_per_second"]) if last else ""]
        line += [_megabytes(memory) if first else "", _megabytes(row["bytes"]) if first else ""]
        line += [_number(part.get("times_as_fast_as", {}).get(peer)) if last else "" for peer in peers]
        if has_rate:
            share = part.get("of_product")
            line += [_number(part.get("gflops")), NOTHING if share is None else f"{share:.0%}"]
        yield line if first else ["", "", "", "", *line[4:]]


def _number(value):
    """Format a number with three significant digits."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:#.3g}"


def _megabytes(value):
    return f"{_number(value / 1e6)} MB" if value else NOTHING
