"""One HTML file that needs nothing else: tables, curves, and the images that say most about a method."""

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
from keras_recnet.evaluation.thumbnails import pictures

RANKED_BY = "s_measure"
CASES, LEAST_CASES, MOST_METHODS, MOST_PAIRS = 6, 2, 5, 3
CASES_IN_ALL = 120  # a case is about 30 KB


@dataclasses.dataclass(frozen=True)
class Case:
    """An image with its pictures.

    Attributes:
        name: of the image.
        scores: (label, text) to stand beside the name.
        pictures: (caption, data URI).
    """

    name: str
    scores: list[tuple[str, str]]
    pictures: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Cases under a title, with a line on how they were chosen."""

    title: str
    about: str
    cases: list[Case]


def write(evaluation, drawn: dict[str, dict[str, str]], path: Path) -> None:
    """Writes the report.

    Args:
        evaluation: a `keras_recnet.evaluation.run.Evaluation`.
        drawn: data set → title → SVG, as `keras_recnet.evaluation.figures.write` gives it.
        path: the file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    many = sum(len(result.records) for result in evaluation.results)
    sections = [
        {
            "name": result.data_set.name,
            "result": result,
            "lines": tables.rows(result),
            "columns": tables.columns(tables.rows(result)),
            "best": tables.best(tables.rows(result)) if result.same_images else (),
            "notes": tables.note_lines(result),
            "named_notes": _named(result),
            "figures": {title: Markup(svg) for title, svg in drawn[result.data_set.name].items()},
            "galleries": galleries(result, max(LEAST_CASES, min(CASES, CASES_IN_ALL // (4 * many)))),
        }
        for result in evaluation.results
    ]
    page = environment.get_template("report.html.jinja").render(
        sections=sections,
        faults=evaluation.faults,
        metrics=METRICS,
        text=tables.text,
        color_of=color_of,
        versions={"keras_recnet": keras_recnet.__version__, "pysodmetrics": version("pysodmetrics")},
    )
    tables.write_text(path, page)


def galleries(result, count: int) -> list[Gallery]:
    """The images to look at: worst and best of each method, distractors, and where two methods differ most.

    Args:
        result: a `keras_recnet.evaluation.run.Result`.
        count: cases a gallery.
    """
    found = []
    for method in list(result.records)[:MOST_METHODS]:
        records = [record for record in result.records[method].values() if RANKED_BY in record.values]
        ranked = sorted(records, key=lambda record: (record.values[RANKED_BY], record.name))
        some = min(count, len(ranked) // 2)
        whose = f"{method}: " if len(result.records) > 1 else ""
        found.append(_gallery(f"{whose}worst", "lowest S", result, [method], ranked[:some] if some else ranked))
        found.append(_gallery(f"{whose}best", "highest S", result, [method], ranked[::-1][:some]))
        distractors = [record for record in result.records[method].values() if "distractor_mean" in record.values]
        distractors.sort(key=lambda record: (-record.values["distractor_mean"], record.name))
        title = f"{whose}brightest on images without an object"
        found.append(_gallery(title, "the map should be black", result, [method], distractors[:count]))
    first, *others = result.records
    for second in others[:MOST_PAIRS]:
        one, two = result.records[first], result.records[second]
        common = [name for name in one if name in two and RANKED_BY in one[name].values]

        def difference(name, one=one, two=two):
            return abs(one[name].values[RANKED_BY] - two[name].values[RANKED_BY])

        common = sorted(common, key=lambda name: (-difference(name), name))[:count]
        title = f"{first} and {second}: where they differ most"
        found.append(
            _gallery(title, "largest difference in S", result, [first, second], [one[name] for name in common])
        )
    return [gallery for gallery in found if gallery.cases]


def _gallery(title, about, result, methods, records):
    cases = []
    for record in records:
        try:
            shown = pictures(result.pairs, record.name, methods)
        except ImageError:  # it has changed since it was scored; the next run will tell
            continue
        cases.append(Case(record.name, _scores(result, record.name, methods), shown))
    return Gallery(title, about, cases)


def _scores(result, name, methods):
    found = []
    for method in methods:
        values = result.records[method][name].values
        for key in (RANKED_BY, "mae", "distractor_mean"):
            if key in values:
                label = f"{LABELS[key]} {method}" if len(methods) > 1 else LABELS[key]
                found.append((label, f"{values[key]:.3f}"))
    return found


def _named(result):
    """(what, names) of the notes whose images a reader will want to find."""
    for note, methods in tables.notes(result).items():
        for method, names in methods.items():
            about_masks = note in ("distractors", "full_mask")
            yield (note if about_masks else f"{note}, {method}", names)
            if about_masks:
                break
