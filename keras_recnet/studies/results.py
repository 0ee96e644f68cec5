"""Results of a study: measured and published numbers of each row, and the differences between rows."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from keras_recnet.errors import ConfigError
from keras_recnet.evaluation.aggregation import METRICS, Metric
from keras_recnet.evaluation.published import FINE_TUNED
from keras_recnet.studies.definition import Study, StudyRow

# (row, seed) → metric → number
Scores = Mapping[tuple[str, int], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One metric of one row.

    Attributes:
        metric: the metric.
        measured: seed → number.
        published: the paper's number, or None.
        differences: seed → difference from the row that this row is compared with.
        published_difference: the same difference in the paper, or None.
    """

    metric: Metric
    measured: dict[int, float]
    published: float | None
    differences: dict[int, float]
    published_difference: float | None

    @property
    def agrees(self) -> bool | None:
        """Whether the mean difference has the paper's sign; None if one of them is missing, or the paper's is 0."""
        if not self.differences or not self.published_difference:
            return None
        return mean(self.differences) * self.published_difference > 0


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of the table: its definition and an entry per metric."""

    row: StudyRow
    entries: list[Entry]


@dataclasses.dataclass(frozen=True)
class Table:
    """The results of a study on one dataset.

    Attributes:
        title: title of the study.
        data_set: name of the dataset.
        published: paper, table and dataset of the published numbers, or None.
        seeds: the seeds for which at least one row has results.
        rows: the rows.
    """

    title: str
    data_set: str
    published: str | None
    seeds: list[int]
    rows: list[TableRow]


def table(study: Study, rows: Sequence[StudyRow], data_set: str, scores: Scores, published_for: str | None) -> Table:
    """Put measured and published numbers together.

    Args:
        study: the study.
        rows: its selected rows.
        data_set: name of the scored dataset.
        scores: the numbers measured so far.
        published_for: name of the dataset in the paper; None: the study's own choice.
    """
    metrics = [metric for key in study.metrics for metric in METRICS if metric.key == key]
    source, numbers = _published(study, published_for)
    seeds = sorted({seed for _, seed in scores})

    def measured(row, metric):
        return {
            seed: scores[row.name, seed][metric.key] for seed in seeds if metric.key in scores.get((row.name, seed), {})
        }

    def entry(row, metric):
        own, paper = measured(row, metric), numbers.get(row.published, {}).get(metric.key)
        if row.compared_with is None:
            return Entry(metric, own, paper, {}, None)
        reference = study.row(row.compared_with)
        other, other_paper = measured(reference, metric), numbers.get(reference.published, {}).get(metric.key)
        differences = {seed: own[seed] - other[seed] for seed in own if seed in other}
        # published numbers have three decimals, and so have their differences
        difference = None if None in (paper, other_paper) else round(paper - other_paper, 3)
        return Entry(metric, own, paper, differences, difference)

    table_rows = [TableRow(row, [entry(row, metric) for metric in metrics]) for row in rows]
    return Table(study.title, data_set, source, seeds, table_rows)


def published_name(study: Study, data_set: str | None) -> str:
    """Return the name of a dataset as in the study's published table; None: the study's own choice.

    Raises:
        ConfigError: if the table does not contain the dataset.
    """
    names = {row.data_set.casefold(): row.data_set for row in study.published_rows()}
    if data_set is not None and data_set.casefold() not in names:
        raise ConfigError(
            f"The published table of this study has no dataset {data_set!r}. Choose one of: "
            f"{', '.join(names.values())}."
        )
    return names[(data_set or study.published.data_set).casefold()]


def mean(values: Mapping[int, float]) -> float | None:
    """Return the mean over the seeds, or None without values."""
    return statistics.fmean(values.values()) if values else None


def deviation(values: Mapping[int, float]) -> float | None:
    """Return the sample standard deviation over the seeds, or None for fewer than two."""
    return statistics.stdev(values.values()) if len(values) > 1 else None


def _published(study, data_set):
    """Return the source of the published numbers, and row → metric → number."""
    if study.published is None:
        return None, {}
    every = study.published_rows()
    name = published_name(study, data_set)
    selected = [row for row in every if row.data_set == name]
    source = f"{selected[0].source}, {name}"
    if selected[0].fine_tuned:
        source += f", {FINE_TUNED}"
    return source, {row.method: row.values for row in selected}
