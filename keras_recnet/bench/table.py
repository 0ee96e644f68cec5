"""A report as a table for people."""

from keras_recnet.bench.candidates import PRODUCT
from keras_recnet.bench.networks import GROUP

NOTHING = "–"


def heading(report: dict) -> str:
    """A line about the machine and the run."""
    machine, threads = report["machine"], report["threads"]
    of_threads = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{machine['processor']}, {machine['cores']} cores; {of_threads}; {report['date']}"


def notes(report: dict) -> list[str]:
    """What the columns mean."""
    lines = [
        "p50, p90: ms for one picture, decoded and of the network's size, by the network alone.",
        "CPU: ms of the processor in the median run, of all threads together, their waiting for each other included.",
    ]
    if any(row["throughput"] for row in report["contestants"]):
        lines.append(f"pictures/s: {report['burst']} pictures worked off by all threads.")
    lines.append("memory: the most that the process held during the runs of one picture.")
    if any(GROUP in row["parts"] for row in report["contestants"]):
        lines.append("encode, step, decode: a group's parts, for one picture; group: a whole group, by its pictures.")
    if any(row["engine"] == PRODUCT for row in report["contestants"]):
        lines.append("GFLOP/s: the convolutions' and matrix products' operations by p50.")
    return lines


def cells(report: dict) -> tuple[list[str], list[list[str]]]:
    """The heads of the columns, and the rows: one for each part of each contestant."""
    rows = report["contestants"]
    peers = list(dict.fromkeys(row["network"] for row in rows if row["peer"]))
    has_rate = any(row["engine"] == PRODUCT for row in rows)
    heads = ["network", "engine", "precision", "input", "part", "p50", "p90", "CPU", "pictures/s", "memory", "size"]
    heads += [f"× {peer}" for peer in peers] + (["GFLOP/s", "of product"] if has_rate else [])
    return heads, [line for row in rows for line in _lines(row, peers, has_rate)]


def plain(heads: list[str], rows: list[list[str]]) -> str:
    """The table in columns of plain text, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < TEXTS else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [heads, *rows]
    )


def rich(heads: list[str], rows: list[list[str]]):
    """The table for a terminal, of rich's kind."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < TEXTS else "right", no_wrap=place >= TEXTS)
    for row in rows:
        table.add_row(*row)
    return table


TEXTS = 5  # of the columns, the first, that are no numbers


def _lines(row, peers, has_rate):
    shape = "×".join(map(str, row["input_shape"] or ()))
    parts = row["parts"] or {NOTHING: {"runs": 0}}
    for place, (name, part) in enumerate(parts.items(), start=1):
        first, last = place == 1, place == len(parts)
        memory = row["memory"].get("latency")
        line = [row["network"], row["engine"], row["precision"], shape or NOTHING, name]
        line += [_number(part.get(key)) for key in ("p50", "p90", "processor")]
        line += [_number(row["throughput"] and row["throughput"]["pictures_per_second"]) if last else ""]
        line += [_bytes(memory) if first else "", _bytes(row["bytes"]) if first else ""]
        line += [_number(part.get("times_as_fast_as", {}).get(peer)) if last else "" for peer in peers]
        if has_rate:
            share = part.get("of_product")
            line += [_number(part.get("gflops")), NOTHING if share is None else f"{share:.0%}"]
        yield line if first else ["", "", "", "", *line[4:]]


def _number(value):
    """Three digits that count."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:#.3g}"


def _bytes(value):
    return f"{_number(value / 1e6)} MB" if value else NOTHING
