"""Means of a method's scores over images and over groups."""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np

from keras_recnet.evaluation.result_log import Record
from keras_recnet.evaluation.scoring import CURVES, curves


@dataclasses.dataclass(frozen=True)
class Metric:
    """Name and description of a metric.

    Attributes:
        key: name in files.
        label: name in tables.
        latex: name in LaTeX tables.
        lower_is_better: whether the metric is an error.
        help: description in the report.
    """

    key: str
    label: str
    latex: str
    lower_is_better: bool
    help: str


METRICS = (
    Metric("mae", "MAE", "MAE", True, "mean absolute error of the map stretched to 0…1, as in pysodmetrics"),
    Metric("mae_unstretched", "MAE (unstretched)", "MAE (unstretched)", True, "MAE of the map as saved"),
    Metric("max_f", "max F", r"$F_\beta^{\max}$", False, "maximum of the dataset's F curve, β² = 0.3"),
    Metric("mean_f", "mean F", r"$F_\beta^{\mathrm{mean}}$", False, "mean of the dataset's F curve"),
    Metric("adaptive_f", "adaptive F", r"$F_\beta^{\mathrm{adp}}$", False, "F at twice the map's mean"),
    Metric(
        "f_mean_plus_std", "F at μ+σ", r"$F_\beta^{\mu+\sigma}$", False, "F at the map's mean plus standard deviation"
    ),
    Metric("weighted_f", "weighted F", r"$F_\beta^{w}$", False, "F with errors weighted by their location, β = 1"),
    Metric("s_measure", "S", r"$S_\alpha$", False, "structure measure, α = 0.5"),
    Metric("max_e", "max E", r"$E_\xi^{\max}$", False, "maximum of the dataset's E curve (enhanced alignment)"),
    Metric("mean_e", "mean E", r"$E_\xi^{\mathrm{mean}}$", False, "mean of the dataset's E curve"),
    Metric("adaptive_e", "adaptive E", r"$E_\xi^{\mathrm{adp}}$", False, "E at twice the map's mean"),
    Metric("distractor_mean", "distractors", "distractors", True, "mean of the map as saved, only for distractors"),
)
LABELS = {metric.key: metric.label for metric in METRICS}

# Metrics computed from the mean curve; all others are means of per-image values.
CURVE_METRICS = {"max_f": ("f", np.max), "mean_f": ("f", np.mean), "max_e": ("e", np.max), "mean_e": ("e", np.mean)}


@dataclasses.dataclass(frozen=True)
class Means:
    """Means of one method on one dataset.

    Attributes:
        values: metric → mean; metrics without values are omitted.
        curves: `"precision"`, `"recall"`, `"f"`, `"e"` → float `(256,)`, by threshold; empty if no mask has an object.
        images: number of scored images, without distractors.
        distractors: number of images whose mask has no object.
    """

    values: dict[str, float]
    curves: dict[str, np.ndarray]
    images: int
    distractors: int


def means(records: Iterable[Record]) -> Means:
    """Compute the means over images.

    The F and E curves are averaged over the images at each threshold; max and mean F and E are taken from the mean
    curve, as in pysodmetrics. Distractors only count in `distractor_mean`.
    """
    records = list(records)
    with_object = [record for record in records if record.counts is not None]
    sums = {}
    for record in with_object:
        for name, values in curves(record.counts).items():
            sums[name] = sums.get(name, 0.0) + values
    return _means(
        [record.values for record in records],
        {name: total / len(with_object) for name, total in sums.items()},
        len(with_object),
        len(records) - len(with_object),
    )


def by_group(records: Iterable[Record], draws: bool = False) -> dict[str, Means]:
    """Compute the means of each group. The group of a record is the folder of its name, without the draw."""
    groups = collections.defaultdict(list)
    for record in records:
        groups[record.name.rsplit("/", 2 if draws else 1)[0]].append(record)
    return {name: means(members) for name, members in sorted(groups.items())}


def over_groups(groups: Iterable[Means]) -> Means:
    """Compute the means over groups, each with the same weight. Curves are averaged as in `means`."""
    groups = list(groups)
    with_object = [group for group in groups if group.curves]
    mean_curves = {}
    if with_object:
        mean_curves = {name: np.mean([group.curves[name] for group in with_object], axis=0) for name in CURVES}
    return _means(
        [group.values for group in groups],
        mean_curves,
        sum(group.images for group in groups),
        sum(group.distractors for group in groups),
    )


def _means(values, mean_curves, images, distractors):
    result = {}
    for metric in METRICS:
        if metric.key in CURVE_METRICS:
            name, statistic = CURVE_METRICS[metric.key]
            if mean_curves:
                result[metric.key] = float(statistic(mean_curves[name]))
            continue
        numbers = [own[metric.key] for own in values if metric.key in own]
        if numbers:
            result[metric.key] = float(np.mean(numbers))
    return Means(result, mean_curves, images, distractors)
