"""Curves and histograms as SVG and PNG files, and as inline SVG for the report, in the text color of the page."""

import io
import re
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_recnet.evaluation.scoring import THRESHOLDS
from keras_recnet.evaluation.tables import write_text
from keras_recnet.files import atomic_path

# Readable on white and on almost black; different lightness and the dashes below help color-blind readers.
COLORS = ("#2f7fd1", "#e0772f", "#2b9d78", "#c65a9e", "#8c7ae0", "#b58a14", "#3fa7b5", "#d65252")
DASHES = ("-", "--", "-.", ":")

_TEXT = "#010203"  # placeholder for the text color, replaced in the SVG
_TEXT_IN_FILES = "#222222"
_STYLE = {
    "svg.fonttype": "none",  # keep text as text: small files, selectable, in the font of the reader
    "svg.hashsalt": "keras_recnet",  # reproducible files
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "grid.color": _TEXT,
    "grid.alpha": 0.12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_BINS = 20


def write(result, folder: Path) -> dict[str, str]:
    """Draw the curves and histograms of a `keras_recnet.evaluation.run.Result` and write them to a folder.

    Returns:
        title → inline SVG; figures without data are omitted.
    """
    svgs = {}
    for name, (title, draw) in _FIGURES.items():
        with rc_context(_STYLE):
            figure = Figure(figsize=(4.8, 3.6), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            if not draw(axes, result):
                continue
            if len(result.records) > 1:
                axes.legend(fontsize=9)
            file = io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
            stem = f"{slug(result.data_set.name)}-{name}"
            svg = file.getvalue()
            write_text(folder / f"{stem}.svg", _on_white(svg.replace(_TEXT, _TEXT_IN_FILES)))
            with atomic_path(folder / f"{stem}.png") as temporary:
                figure.savefig(temporary, format="png", dpi=150, facecolor="white")
        svgs[title] = _inline(svg, f"{result.data_set.name}: {title}", stem)
    return svgs


def color_of(index: int) -> str:
    """Return the color of a method by its index."""
    return COLORS[index % len(COLORS)]


def slug(name: str) -> str:
    """Convert a name to text that can be part of a file name."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "set"


def _lines(result):
    for index, (method, means) in enumerate(result.images.items()):
        if means.curves:
            style = DASHES[index // len(COLORS) % len(DASHES)]
            yield means, {"color": color_of(index), "linestyle": style, "label": method, "linewidth": 1.8}


def _precision_recall(axes, result):
    for means, style in _lines(result):
        axes.plot(means.curves["recall"], means.curves["precision"], **style)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(_floor(result, "precision"), 1.01))
    return axes.lines


def _by_threshold(curve, label):
    def draw(axes, result):
        for means, style in _lines(result):
            axes.plot(THRESHOLDS, means.curves[curve], **style)
        axes.set(xlabel="threshold", ylabel=label, xlim=(0, 255), ylim=(_floor(result, curve), 1.01))
        axes.set_xticks([0, 64, 128, 192, 255])
        return axes.lines

    return draw


def _histogram(metric, label, lower_is_better):
    def draw(axes, result):
        scores = {
            method: [record.values[metric] for record in records.values() if metric in record.values]
            for method, records in result.records.items()
        }
        all_scores = [score for values in scores.values() for score in values]
        if not all_scores:
            return False
        if lower_is_better:
            edges = np.linspace(0, max(0.05, np.ceil(max(all_scores) * 20) / 20), _BINS + 1)
        else:
            edges = np.linspace(min(0.95, np.floor(min(all_scores) * 20) / 20), 1, _BINS + 1)
        for index, (method, values) in enumerate(scores.items()):
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            axes.stairs(counts, edges, color=color_of(index), fill=True, alpha=0.25 if len(scores) > 1 else 0.5)
            axes.stairs(counts, edges, color=color_of(index), linewidth=1.6, label=method)
        axes.set(xlabel=label, ylabel="images", xlim=(edges[0], edges[-1]))
        axes.yaxis.get_major_locator().set_params(integer=True)
        return True

    return draw


def _floor(result, curve):
    # At the lowest and highest thresholds every curve drops to the value of a full or empty map. Cut these drops off.
    middle = slice(8, 248)
    lowest = min((float(means.curves[curve][middle].min()) for means, _ in _lines(result)), default=0.0)
    return max(0.0, np.floor(lowest * 10 - 1) / 10)


_FIGURES = {
    "pr": ("Precision and recall", _precision_recall),
    "f": ("F-measure by threshold", _by_threshold("f", "F-measure (β² = 0.3)")),
    "e": ("E-measure by threshold", _by_threshold("e", "E-measure")),
    "s-histogram": ("S per image", _histogram("s_measure", "S", False)),
    "mae-histogram": ("MAE per image", _histogram("mae", "MAE", True)),
}


def _on_white(svg):
    return re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)


def _inline(svg, label, prefix):
    """Return only the `<svg>` element, with unique ids and the text color of the page."""
    svg = svg[svg.index("<svg ") :].replace(_TEXT, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    label = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
