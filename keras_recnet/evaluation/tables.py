"""The numbers as files: JSON and CSV in full, Markdown and LaTeX to be pasted."""

import csv
import dataclasses
import io
import json
from importlib.metadata import version
from pathlib import Path

import keras_recnet
from keras_recnet.evaluation.aggregation import METRICS
from keras_recnet.evaluation.scoring import CURVES, THRESHOLDS
from keras_recnet.files import atomic_path

# What a note says of the images that bear it; `{}` is their number.
NOTES = {
    "distractors": "{} image(s) without an object in the mask (distractors): the map's unstretched mean alone",
    "full_mask": "{} image(s) whose mask covers every pixel: scored as the others",
    "resized": "{} map(s) of another size than the mask: resized to it (bilinear)",
    "swapped": "{} map(s) as wide as the mask is high and as high as it is wide: squeezed into it, a wrong score. Is "
    "the mask drawn on the photograph as it is stored, before its EXIF rotation? Turn it",
    "16-bit": "{} map(s) with 16 bits: scored at that precision",
    "float": "{} map(s) of floats in 0…1: scored at that precision",
    "rgb": "{} map(s) saved as RGB with equal channels: taken as grey",
    "colour": "{} map(s) in colours: their luminance was scored. Are they heatmaps?",
    "s_undefined": "{} image(s) whose mask lies at the last row or column, where S is undefined: counted as 0",
}
PUBLISHED = "published"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table: a measured method's means, or a published row.

    Attributes:
        data_set, method: names.
        source: `"measured"`, or `"published"`.
        over: what the mean is taken over: `"images"`, `"groups"`, or the paper and table.
        images: scored ones with an object; None for published rows.
        distractors: scored ones without.
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
    """The lines of a `keras_recnet.evaluation.run.Result`: measured first."""
    name, found = result.data_set.name, []
    for over, all_means in (("images", result.images), ("groups", result.over_groups)):
        for method, means in all_means.items():
            found.append(Row(name, method, "measured", over, means.images, means.distractors, means.values))
    for row in result.published:
        found.append(Row(name, row.method, PUBLISHED, row.source, None, None, row.values))
    return found


def columns(lines: list[Row]) -> list:
    """The metrics that some line has."""
    return [metric for metric in METRICS if any(metric.key in line.values for line in lines)]


def text(metric, line: Row) -> str:
    """A number as tables show it: four decimals of an error, three of a score, a paper's as it was printed."""
    value = line.values.get(metric.key)
    if value is None:
        return "–"
    return f"{value:.{4 if metric.low_is_good and line.source != PUBLISHED else 3}f}"


def best(lines: list[Row]) -> set[tuple[int, str]]:
    """(place in `lines`, metric) of the best measured numbers, as they are shown; none with one method alone."""
    found = set()
    for over in ("images", "groups"):
        measured = {place: line for place, line in enumerate(lines) if line.source != PUBLISHED and line.over == over}
        for metric in METRICS if len(measured) > 1 else ():
            shown = {place: text(metric, line) for place, line in measured.items() if metric.key in line.values}
            if shown:
                top = (min if metric.low_is_good else max)(shown.values(), key=float)
                found |= {(place, metric.key) for place, number in shown.items() if number == top}
    return found


def notes(result) -> dict[str, dict[str, list[str]]]:
    """Note → method → names of the images that bear it."""
    found = {}
    for method, records in result.records.items():
        for record in records.values():
            for note in record.notes:
                found.setdefault(note, {}).setdefault(method, []).append(record.name)
    return {note: found[note] for note in NOTES if note in found}


def note_lines(result) -> list[str]:
    """The notes as sentences; those on masks once, those on maps a method."""
    lines = []
    for note, methods in notes(result).items():
        about_masks = note in ("distractors", "full_mask")
        for method, names in methods.items():
            who = "" if about_masks or len(result.records) == 1 else f"{method}: "
            lines.append(f"{who}{NOTES[note].format(len(names))}")
    if not result.same_images:
        lines.append("The methods were not scored on the same images: do not compare their means (--common-only).")
    return list(dict.fromkeys(lines))


def markdown(evaluation) -> str:
    """A table for each data set, with its notes."""
    parts = []
    for result in evaluation.results:
        lines = rows(result)
        head = ["method", "mean over", "images", *(metric.label for metric in columns(lines))]
        body, top = [], best(lines) if result.same_images else ()
        for place, line in enumerate(lines):
            cells = [
                f"**{text(metric, line)}**" if (place, metric.key) in top else text(metric, line)
                for metric in columns(lines)
            ]
            method = line.method.replace("|", r"\|")
            over = f"{line.source}, {line.over}" if line.source == PUBLISHED else line.over
            images = "–" if line.images is None else str(line.images)
            body.append([method, over, images, *cells])
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * 3 + ["---:"] * len(cells), *body))
        remarks = "".join(f"\n- {line}" for line in note_lines(result))
        parts.append(f"## {result.data_set.name}\n\n{table}\n" + (remarks and f"{remarks}\n"))
    return "\n".join(parts)


def latex(evaluation) -> str:
    """A `booktabs` table for each data set."""
    parts = []
    for result in evaluation.results:
        lines = rows(result)
        metrics, top = columns(lines), best(lines) if result.same_images else ()
        body = []
        for place, line in enumerate(lines):
            cells = [text(metric, line).replace("–", "--") for metric in metrics]
            cells = [
                rf"\textbf{{{cell}}}" if (place, metric.key) in top else cell
                for cell, metric in zip(cells, metrics, strict=True)
            ]
            mark = {PUBLISHED: r"$^\dagger$"}.get(line.source, " (groups)" if line.over == "groups" else "")
            body.append(" & ".join([_latex_text(line.method) + mark, *cells]) + r" \\")
        caption = _latex_text(result.data_set.name)
        if result.published:
            caption += r". $^\dagger$~as published by the papers, not measured here"
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
    """Everything but curves and single images, as plain values."""
    sets = []
    for result in evaluation.results:
        methods = {}
        for method, means in result.images.items():
            methods[method] = {"maps": str(result.data_set.maps[method]), **_plain(means)}
            if result.data_set.grouped:
                methods[method]["over_groups"] = _plain(result.over_groups[method])
                methods[method]["groups"] = {name: _plain(group) for name, group in result.groups[method].items()}
        sets.append(
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
        "data_sets": sets,
        "faults": [dataclasses.asdict(fault) for fault in evaluation.faults],
    }


def write(evaluation, out: Path) -> None:
    """Writes `metrics.json`, `metrics.csv`, `curves.csv`, `per_image.csv`, `table.md` and `table.tex` to a folder."""
    write_text(out / "metrics.json", json.dumps(as_json(evaluation), indent=2) + "\n")
    write_text(out / "metrics.csv", _csv(_metrics_lines(evaluation)))
    write_text(out / "curves.csv", _csv(_curve_lines(evaluation)))
    write_text(out / "per_image.csv", _csv(_image_lines(evaluation)))
    write_text(out / "table.md", markdown(evaluation))
    write_text(out / "table.tex", latex(evaluation))


def write_text(path: Path, content: str) -> None:
    """Writes a text file atomically; a file name in it that is no UTF-8 gets question marks."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode("utf-8", "replace"))


def _metrics_lines(evaluation):
    keys = [metric.key for metric in METRICS]
    yield ["data_set", "method", "source", "over", "images", "distractors", *keys]
    for result in evaluation.results:
        for line in rows(result):
            fields = (line.data_set, line.method, line.source, line.over, line.images, line.distractors)
            yield [*fields, *(line.values.get(key) for key in keys)]


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


def _latex_text(words):
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in words)
