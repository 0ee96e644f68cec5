"""HTML report in a single file: tables, curves, and the best and worst maps of each method."""

import dataclasses
from importlib.metadata import version
from pathlib import Path

import jinja2
from markupsafe import Markup

import keras_recnet
from keras_recnet.errors import ImageError
from keras_recnet.evaluation import tables
from keras_recnet.evaluation.aggregation import LABELS, METRICS
from keras_recnet.evaluation.figures import color_of
from keras_recnet.evaluation.published import FINE_TUNED
from keras_recnet.evaluation.thumbnails import thumbnails

RANKED_BY = "s_measure"
MOST_METHODS, MOST_PAIRS = 5, 3  # methods and pairs of methods with galleries
MOST_CASES, LEAST_CASES = 6, 2  # per gallery
CASES_IN_ALL = 120  # a case is about 30 KB


@dataclasses.dataclass(frozen=True)
class Case:
    """An image with its scores and thumbnails.

    Attributes:
        name: name of the image.
        scores: (label, text) of each score.
        thumbnails: (caption, data URI) of each thumbnail.
    """

    name: str
    scores: list[tuple[str, str]]
    thumbnails: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Cases with a title and a line on how they were selected."""

    title: str
    about: str
    cases: list[Case]


def write(evaluation, svgs: dict[str, dict[str, str]], path: Path) -> None:
    """Write the report.

    Args:
        evaluation: a `keras_recnet.evaluation.run.Evaluation`.
        svgs: dataset → title → inline SVG, from `keras_recnet.evaluation.figures.write`.
        path: the HTML file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    methods = sum(len(result.records) for result in evaluation.results)
    cases = max(LEAST_CASES, min(MOST_CASES, CASES_IN_ALL // (4 * methods)))
    sections = []
    for result in evaluation.results:
        rows = tables.rows(result)
        sections.append(
            {
                "name": result.data_set.name,
                "result": result,
                "rows": rows,
                "columns": tables.columns(rows),
                "best": tables.best(rows) if result.same_images else (),
                "notes": tables.note_lines(result),
                "image_names": _image_names(result),
                "figures": {title: Markup(svg) for title, svg in svgs[result.data_set.name].items()},
                "galleries": galleries(result, cases),
            }
        )
    page = environment.get_template("report.html.jinja").render(
        sections=sections,
        faults=evaluation.faults,
        metrics=METRICS,
        text=tables.text,
        color_of=color_of,
        fine_tuned=FINE_TUNED,
        versions={"keras_recnet": keras_recnet.__version__, "pysodmetrics": version("pysodmetrics")},
    )
    tables.write_text(path, page)


def galleries(result, cases: int) -> list[Gallery]:
    """Select the worst and best images of each method, its brightest distractors, and images where methods differ.

    Args:
        result: a `keras_recnet.evaluation.run.Result`.
        cases: maximum number of images per gallery.
    """
    selected = []
    for method in list(result.records)[:MOST_METHODS]:
        records = [record for record in result.records[method].values() if RANKED_BY in record.values]
        ranked = sorted(records, key=lambda record: (record.values[RANKED_BY], record.name))
        count = min(cases, len(ranked) // 2)
        prefix = f"{method}: " if len(result.records) > 1 else ""
        worst = ranked[:count] if count else ranked
        selected.append(_gallery(f"{prefix}worst", "lowest S", result, [method], worst))
        selected.append(_gallery(f"{prefix}best", "highest S", result, [method], ranked[::-1][:count]))
        distractors = [record for record in result.records[method].values() if "distractor_mean" in record.values]
        distractors.sort(key=lambda record: (-record.values["distractor_mean"], record.name))
        title = f"{prefix}brightest on images without an object"
        selected.append(_gallery(title, "the map should be black", result, [method], distractors[:cases]))
    first, *others = result.records
    for second in others[:MOST_PAIRS]:
        one, two = result.records[first], result.records[second]
        common = [name for name in one if name in two and RANKED_BY in one[name].values]

        def difference(name, one=one, two=two):
            return abs(one[name].values[RANKED_BY] - two[name].values[RANKED_BY])

        common = sorted(common, key=lambda name: (-difference(name), name))[:cases]
        title = f"{first} and {second}: where they differ most"
        records = [one[name] for name in common]
        selected.append(_gallery(title, "largest difference in S", result, [first, second], records))
    return [gallery for gallery in selected if gallery.cases]


def _gallery(title, about, result, methods, records):
    cases = []
    for record in records:
        try:
            images = thumbnails(result.pairs, record.name, methods)
        except ImageError:  # a file changed after scoring; the next run reports it
            continue
        cases.append(Case(record.name, _scores(result, record.name, methods), images))
    return Gallery(title, about, cases)


def _scores(result, name, methods):
    scores = []
    for method in methods:
        values = result.records[method][name].values
        for key in (RANKED_BY, "mae", "mae_unstretched", "distractor_mean"):
            if key in values:
                label = f"{LABELS[key]} {method}" if len(methods) > 1 else LABELS[key]
                scores.append((label, f"{values[key]:.3f}"))
    return scores


def _image_names(result):
    """Return (note, image names): once per mask note, once per method for map notes."""
    labeled = {}
    for note, methods in tables.notes(result).items():
        for method, names in methods.items():
            labeled.setdefault(note if note in tables.MASK_NOTES else f"{note}, {method}", names)
    return labeled
