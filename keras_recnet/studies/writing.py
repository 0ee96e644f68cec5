"""The table of a study in Markdown, LaTeX and CSV, and its plot."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_recnet.evaluation.figures import COLORS, slug
from keras_recnet.evaluation.tables import latex_text, write_text
from keras_recnet.files import atomic_path
from keras_recnet.studies.results import Entry, Table, deviation, mean

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "keras_recnet",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.2,
    "legend.frameon": False,
}


def write(tables: Sequence[Table], out: Path) -> None:
    """Write `table.md`, `table.tex`, `table.csv`, and `plot-SET.png` and `plot-SET.svg` per dataset."""
    write_text(out / "table.md", "\n".join(map(markdown, tables)))
    write_text(out / "table.tex", "\n".join(map(latex, tables)))
    write_text(out / "table.csv", as_csv(tables))
    for table in tables:
        plot(table, out / f"plot-{slug(table.data_set)}")


def markdown(table: Table) -> str:
    """Format the table, with its notes."""
    metrics = [entry.metric for entry in table.rows[0].entries]
    lines = [["row", "compared with"], ["---", "---"]]
    for metric in metrics:
        lines[0] += [metric.label] + ([f"{metric.label}, paper"] if table.published else [])
        lines[1] += ["---:"] * (1 + bool(table.published))
    for row in table.rows:
        cells = [row.row.name, row.row.compared_with or "–"]
        for entry in row.entries:
            cells.append(_measured(entry))
            if table.published:
                cells.append(_published(entry))
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = "".join(f"- {note}\n" for note in _notes(table))
    return f"## {table.title}: {table.data_set}\n\n{text}\n\n{notes}"


def latex(table: Table) -> str:
    """Format the table for the package booktabs."""
    metrics = [entry.metric for entry in table.rows[0].entries]
    width = 2 if table.published else 1
    first = " & ".join(["", *(rf"\multicolumn{{{width}}}{{c}}{{{metric.latex}}}" for metric in metrics)])
    rules = " ".join(rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(len(metrics)))
    second = " & ".join(["row", *(["ours", "paper"][:width] * len(metrics))])
    body = []
    for row in table.rows:
        cells = [latex_text(row.row.name)]
        for entry in row.entries:
            cells += [_measured(entry), _published(entry)][:width]
        body.append(" & ".join(_latex_cell(cell) for cell in cells) + r" \\")
    caption = " ".join([f"{table.title}: {table.data_set}.", *_notes(table)])
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_text(caption).replace('−', '$-$')}}}",
            rf"  \begin{{tabular}}{{l{'r' * width * len(metrics)}}}",
            r"    \toprule",
            rf"    {first} \\",
            rf"    {rules}",
            rf"    {second} \\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_csv(tables: Sequence[Table]) -> str:
    """Format all tables, a line per dataset, row and metric."""
    lines = [
        {
            "data_set": table.data_set,
            "row": row.row.name,
            "compared_with": row.row.compared_with,
            "metric": entry.metric.key,
            "seeds": " ".join(map(str, entry.measured)),
            "mean": mean(entry.measured),
            "deviation": deviation(entry.measured),
            "difference": mean(entry.differences),
            "difference_deviation": deviation(entry.differences),
            "published_in": table.published,
            "published": entry.published,
            "published_difference": entry.published_difference,
        }
        for table in tables
        for row in table.rows
        for entry in row.entries
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def plot(table: Table, path: Path) -> None:
    """Draw our means with their deviations and the published numbers, a panel per metric; write a PNG and an SVG."""
    names = [row.row.name for row in table.rows]
    places = range(len(names))
    metrics = [entry.metric for entry in table.rows[0].entries]
    with rc_context(_STYLE):
        figure = Figure(figsize=(1.6 + 2.6 * len(metrics), 1.4 + 0.35 * len(names)), layout="constrained")
        FigureCanvasAgg(figure)
        for index, (axes, metric) in enumerate(
            zip(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True)
        ):
            entries = [row.entries[index] for row in table.rows]
            measured = [(place, entry) for place, entry in zip(places, entries, strict=True) if entry.measured]
            axes.errorbar(
                [mean(entry.measured) for _, entry in measured],
                [place for place, _ in measured],
                xerr=[deviation(entry.measured) or 0 for _, entry in measured],
                fmt="o",
                capsize=3,
                color=COLORS[0],
                label="ours",
            )
            published = [
                (place, entry.published)
                for place, entry in zip(places, entries, strict=True)
                if entry.published is not None
            ]
            if published:
                axes.plot(
                    [value for _, value in published],
                    [place for place, _ in published],
                    "D",
                    mfc="none",
                    color=COLORS[1],
                    label="paper",
                )
            axes.set(
                xlabel=f"{metric.label} ({'lower' if metric.lower_is_better else 'higher'} is better)",
                yticks=list(places),
            )
            axes.set_yticks(list(places), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        handles, labels = axes.get_legend_handles_labels()  # error bars come last
        figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=2)
        for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
            with atomic_path(path.with_name(path.name + suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], facecolor="white", **options)


def _measured(entry: Entry) -> str:
    """Format `mean ± deviation (difference)`."""
    if not entry.measured:
        return "–"
    decimals = 4 if entry.metric.lower_is_better else 3
    text = f"{mean(entry.measured):.{decimals}f}"
    if (spread := deviation(entry.measured)) is not None:
        text += f" ± {spread:.{decimals}f}"
    return text + _difference(mean(entry.differences), decimals)


def _published(entry: Entry) -> str:
    return "–" if entry.published is None else f"{entry.published:.3f}{_difference(entry.published_difference, 3)}"


def _difference(value: float | None, decimals: int) -> str:
    return "" if value is None else f" ({value:+.{decimals}f})".replace("-", "−")


def _latex_cell(text: str) -> str:
    return text.replace("–", "--").replace("±", r"$\pm$").replace("−", "$-$")


def _notes(table: Table) -> list[str]:
    notes = ["In parentheses: the difference from the row that it is compared with."]
    if len(table.seeds) > 1:
        seeds = ", ".join(map(str, table.seeds))
        notes.append(f"Mean ± standard deviation over the seeds {seeds}; differences are means over the same seeds.")
    if table.published:
        notes.append(f"Published: {table.published}.")
        for index, entry in enumerate(table.rows[0].entries):
            verdicts = [row.entries[index].agrees for row in table.rows]
            known = [verdict for verdict in verdicts if verdict is not None]
            if known:
                notes.append(
                    f"{entry.metric.label}: {sum(known)} of {len(known)} differences have the same sign as the paper's."
                )
    if missing := [row.row.name for row in table.rows if any(len(e.measured) < len(table.seeds) for e in row.entries)]:
        notes.append(f"Not measured with every seed: {', '.join(missing)}.")
    return notes
