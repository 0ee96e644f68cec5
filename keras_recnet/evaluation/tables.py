"""Results as JSON and CSV files, and as tables in Markdown and LaTeX."""

import csv
import dataclasses
import io
import json
from importlib.metadata import version
from pathlib import Path

import keras_recnet
from keras_recnet.evaluation.aggregation import METRICS, Metric
from keras_recnet.evaluation.published import FINE_TUNED
from keras_recnet.evaluation.scoring import CURVES, THRESHOLDS
from keras_recnet.files import atomic_path

# Note → sentence; `{}` is the number of images.
NOTES = {
    "distractors": "{} image(s) without an object in the mask (distractors): only the mean of the map as saved",
    "full_mask": "{} image(s) whose mask covers every pixel: scored like the others",
    "resized": "{} map(s) of a different size than the mask: resized to its size (bilinear)",
    "swapped": "{} map(s) with width and height swapped compared to the mask: resized to its size, but the score is "
    "wrong. If the mask was drawn before the EXIF rotation of the image, rotate the mask",
    "16-bit": "{} map(s) with 16 bits: scored at that precision",
    "float": "{} floating-point map(s) in 0…1: scored at that precision",
    "rgb": "{} map(s) saved as RGB with equal channels: read as gray",
    "color": "{} color map(s): the luminance was scored. Are they heatmaps?",
    "s_undefined": "{} image(s) whose mask is centered in the last row or column, where S is undefined: counted as 0",
}
MASK_NOTES = ("distractors", "full_mask")  # the same for all methods
PUBLISHED = "published"


@dataclasses.dataclass(frozen=True)
class Row:
    """A table row: the means of a method, or a published row.

    Attributes:
        data_set, method: names.
        source: `"measured"` or `"published"`.
        over: `"images"` or `"groups"`, over which the means are taken; for published rows the paper and table, and
            `FINE_TUNED` where it applies.
        images: number of scored images, without distractors; None for published rows.
        distractors: number of scored distractors; None for published rows.
        values: metric → number.
    """

    data_set: str
    method: str
    source: str
    over: str
    images: int | None
    distractors: int | None
    values: dict[str, float]


def rows(result) -> list[Row]:
    """Return the rows of a `keras_recnet.evaluation.run.Result`, measured ones first."""
    name, table_rows = result.data_set.name, []
    for over, all_means in (("images", result.images), ("groups", result.over_groups)):
        for method, means in all_means.items():
            table_rows.append(Row(name, method, "measured", over, means.images, means.distractors, means.values))
    for row in result.published:
        source = f"{row.source}, {FINE_TUNED}" if row.fine_tuned else row.source
        table_rows.append(Row(name, row.method, PUBLISHED, source, None, None, row.values))
    return table_rows


def columns(table_rows: list[Row]) -> list[Metric]:
    """Return the metrics that at least one row has."""
    return [metric for metric in METRICS if any(metric.key in row.values for row in table_rows)]


def text(metric: Metric, values: dict[str, float], *, published: bool = False) -> str:
    """Format the number of a metric: four decimals for errors, three for scores and for published numbers."""
    value = values.get(metric.key)
    if value is None:
        return "–"
    return f"{value:.{4 if metric.lower_is_better and not published else 3}f}"


def best(table_rows: list[Row]) -> set[tuple[int, str]]:
    """Return (row index, metric) of the best measured numbers after rounding; empty for a single method."""
    result = set()
    for over in ("images", "groups"):
        measured = {i: row for i, row in enumerate(table_rows) if row.source != PUBLISHED and row.over == over}
        for metric in METRICS if len(measured) > 1 else ():
            texts = {i: text(metric, row.values) for i, row in measured.items() if metric.key in row.values}
            if texts:
                top = (min if metric.lower_is_better else max)(texts.values(), key=float)
                result |= {(i, metric.key) for i, number in texts.items() if number == top}
    return result


def notes(result) -> dict[str, dict[str, list[str]]]:
    """Return note → method → names of the images that have it."""
    names = {}
    for method, records in result.records.items():
        for record in records.values():
            for note in record.notes:
                names.setdefault(note, {}).setdefault(method, []).append(record.name)
    return {note: names[note] for note in NOTES if note in names}


def note_lines(result) -> list[str]:
    """Return the notes as sentences: once per mask note, once per method for map notes."""
    lines = []
    for note, methods in notes(result).items():
        for method, names in methods.items():
            prefix = "" if note in MASK_NOTES or len(result.records) == 1 else f"{method}: "
            lines.append(f"{prefix}{NOTES[note].format(len(names))}")
    if not result.same_images:
        lines.append("The methods were not scored on the same images: do not compare their means (--common-only).")
    return list(dict.fromkeys(lines))


def markdown(evaluation) -> str:
    """Format a table for each dataset, with its notes."""
    parts = []
    for result in evaluation.results:
        table_rows = rows(result)
        metrics, top = columns(table_rows), best(table_rows) if result.same_images else ()
        lines = [["method", "mean over", "images", *(metric.label for metric in metrics)]]
        lines.append(["---"] * 3 + ["---:"] * len(metrics))
        for index, row in enumerate(table_rows):
            cells = [text(metric, row.values, published=row.source == PUBLISHED) for metric in metrics]
            cells = [
                f"**{cell}**" if (index, metric.key) in top else cell
                for cell, metric in zip(cells, metrics, strict=True)
            ]
            method = row.method.replace("|", r"\|")
            over = f"{row.source}, {row.over}" if row.source == PUBLISHED else row.over
            lines.append([method, over, "–" if row.images is None else str(row.images), *cells])
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        remarks = "".join(f"\n- {line}" for line in note_lines(result))
        parts.append(f"## {result.data_set.name}\n\n{table}\n" + (remarks and f"{remarks}\n"))
    return "\n".join(parts)


def latex(evaluation) -> str:
    """Format a `booktabs` table for each dataset."""
    parts = []
    for result in evaluation.results:
        table_rows = rows(result)
        metrics, top = columns(table_rows), best(table_rows) if result.same_images else ()
        body = []
        for index, row in enumerate(table_rows):
            cells = [text(metric, row.values, published=row.source == PUBLISHED) for metric in metrics]
            cells = [cell.replace("–", "--") for cell in cells]
            cells = [
                rf"\textbf{{{cell}}}" if (index, metric.key) in top else cell
                for cell, metric in zip(cells, metrics, strict=True)
            ]
            mark = " (groups)" if row.over == "groups" else ""
            if row.source == PUBLISHED:
                mark = r"$^\ddagger$" if row.over.endswith(FINE_TUNED) else r"$^\dagger$"
            body.append(" & ".join([latex_text(row.method) + mark, *cells]) + r" \\")
        caption = latex_text(result.data_set.name)
        if result.published:
            caption += r". $^\dagger$~as published in the papers, not measured here"
        if any(row.fine_tuned for row in result.published):
            caption += rf". $^\ddagger$~as published, {FINE_TUNED}"
        parts.append(
            "\n".join(
                [
                    r"% \usepackage{booktabs}",
                    r"\begin{table}",
                    r"  \centering",
                    rf"  \caption{{{caption}.}}",
                    rf"  \begin{{tabular}}{{l{'r' * len(metrics)}}}",
                    r"    \toprule",
                    "    method & " + " & ".join(metric.latex for metric in metrics) + r" \\",
                    r"    \midrule",
                    *(f"    {line}" for line in body),
                    r"    \bottomrule",
                    r"  \end{tabular}",
                    r"\end{table}",
                ]
            )
            + "\n"
        )
    return "\n".join(parts)


def as_json(evaluation) -> dict:
    """Return all results except curves and scores of single images as plain values."""
    data_sets = []
    for result in evaluation.results:
        methods = {}
        for method, means in result.images.items():
            methods[method] = {"maps": str(result.data_set.maps[method]), **_plain(means)}
            if result.data_set.grouped:
                methods[method]["over_groups"] = _plain(result.over_groups[method])
                methods[method]["groups"] = {name: _plain(group) for name, group in result.groups[method].items()}
        data_sets.append(
            {
                "name": result.data_set.name,
                "masks": {"folder": str(result.data_set.masks), "files": len(result.pairs.masks)},
                "grouped": result.data_set.grouped,
                "same_images": result.same_images,
                "methods": methods,
                "notes": notes(result),
                "published": [dataclasses.asdict(row) for row in result.published],
            }
        )
    return {
        "versions": {"keras_recnet": keras_recnet.__version__, "pysodmetrics": version("pysodmetrics")},
        "data_sets": data_sets,
        "faults": [dataclasses.asdict(fault) for fault in evaluation.faults],
    }


def write(evaluation, out: Path) -> None:
    """Write `metrics.json`, `metrics.csv`, `curves.csv`, `per_image.csv`, `table.md` and `table.tex` to a folder."""
    write_text(out / "metrics.json", json.dumps(as_json(evaluation), indent=2) + "\n")
    write_text(out / "metrics.csv", _csv(_metric_lines(evaluation)))
    write_text(out / "curves.csv", _csv(_curve_lines(evaluation)))
    write_text(out / "per_image.csv", _csv(_image_lines(evaluation)))
    write_text(out / "table.md", markdown(evaluation))
    write_text(out / "table.tex", latex(evaluation))


def write_text(path: Path, content: str) -> None:
    """Write a text file atomically; characters of file names that are not valid UTF-8 become question marks."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode("utf-8", "replace"))


def _metric_lines(evaluation):
    keys = [metric.key for metric in METRICS]
    yield ["data_set", "method", "source", "over", "images", "distractors", *keys]
    for result in evaluation.results:
        for row in rows(result):
            fields = (row.data_set, row.method, row.source, row.over, row.images, row.distractors)
            yield [*fields, *(row.values.get(key) for key in keys)]


def _curve_lines(evaluation):
    yield ["data_set", "method", "over", "threshold", *CURVES]
    for result in evaluation.results:
        for over, all_means in (("images", result.images), ("groups", result.over_groups)):
            for method, means in all_means.items():
                for threshold in THRESHOLDS if means.curves else ():
                    numbers = (float(means.curves[name][threshold]) for name in CURVES)
                    yield [result.data_set.name, method, over, int(threshold), *numbers]


def _image_lines(evaluation):
    keys = [metric.key for metric in METRICS]
    yield ["data_set", "method", "name", "height", "width", *keys, "notes"]
    for result in evaluation.results:
        for method, records in result.records.items():
            for record in records.values():
                values = (record.values.get(key) for key in keys)
                yield [result.data_set.name, method, record.name, *record.size, *values, " ".join(record.notes)]


def _csv(lines):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def _plain(means):
    return {"images": means.images, "distractors": means.distractors, **means.values}


def latex_text(text):
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
