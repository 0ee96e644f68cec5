"""Scores of images → means of a method over images and over groups."""

import collections
import dataclasses
from collections.abc import Iterable

import numpy as np

from keras_recnet.evaluation.result_log import Record
from keras_recnet.evaluation.scoring import CURVES, curves


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a number is called and read.

    Attributes:
        key: its name in files.
        label: in tables; `latex`: the same for LaTeX.
        low_is_good: an error rather than a score.
        help: one line for the report.
    """

    key: str
    label: str
    latex: str
    low_is_good: bool
    help: str


METRICS = (
    Metric("mae", "MAE", "MAE", True, "mean absolute error of the stretched map"),
    Metric("max_f", "max F", r"$F_\beta^{\max}$", False, "best point of the set's F curve, β² = 0.3"),
    Metric("mean_f", "mean F", r"$F_\beta^{\mathrm{mean}}$", False, "mean of the set's F curve"),
    Metric("adaptive_f", "adaptive F", r"$F_\beta^{\mathrm{adp}}$", False, "F at twice the map's mean"),
    Metric("f_mean_plus_std", "F at μ+σ", r"$F_\beta^{\mu+\sigma}$", False, "F at the map's mean plus deviation"),
    Metric("weighted_f", "weighted F", r"$F_\beta^{w}$", False, "F with errors weighted by place, β = 1"),
    Metric("s_measure", "S", r"$S_\alpha$", False, "structure measure, α = 0.5"),
    Metric("max_e", "max E", r"$E_\xi^{\max}$", False, "best point of the set's E curve (enhanced alignment)"),
    Metric("mean_e", "mean E", r"$E_\xi^{\mathrm{mean}}$", False, "mean of the set's E curve"),
    Metric("adaptive_e", "adaptive E", r"$E_\xi^{\mathrm{adp}}$", False, "E at twice the map's mean"),
    Metric("mae_unstretched", "MAE unstretched", r"MAE$_{\mathrm{raw}}$", True, "error of the map as it was saved"),
    Metric("distractor_mean", "distractors", "distractors", True, "mean of the unstretched map of a distractor"),
)
LABELS = {metric.key: metric.label for metric in METRICS}

# What a set's curve gives, whereas every other number is the mean of the images' own.
OF_THE_CURVE = {"max_f": ("f", np.max), "mean_f": ("f", np.mean), "max_e": ("e", np.max), "mean_e": ("e", np.mean)}


@dataclasses.dataclass(frozen=True)
class Means:
    """The numbers of one method on one set.

    Attributes:
        values: metric → mean; metrics that no image has are left out.
        curves: `"precision"`, `"recall"`, `"f"`, `"e"` → float `(256,)` by threshold; empty when no mask has an object.
        images: scored, distractors not counted.
        distractors: images whose mask has no object.
    """

    values: dict[str, float]
    curves: dict[str, np.ndarray]
    images: int
    distractors: int


def means(records: Iterable[Record]) -> Means:
    """The means over images.

    The F and E curves are averaged over the images threshold by threshold, and their maximum and mean are taken of that
    curve, as pysodmetrics and the field do. Distractors enter `distractor_mean` and nothing else.
    """
    records = list(records)
    own = [record for record in records if record.counts is not None]
    curve = {}
    for record in own:
        for name, values in curves(record.counts).items():
            curve[name] = curve.get(name, 0.0) + values
    return _means(
        [record.values for record in records],
        {name: total / len(own) for name, total in curve.items()},
        len(own),
        len(records) - len(own),
    )


def by_group(records: Iterable[Record]) -> dict[str, Means]:
    """Group → its means; a record's group is the first folder of its name."""
    groups = collections.defaultdict(list)
    for record in records:
        groups[record.name.split("/")[0]].append(record)
    return {name: means(members) for name, members in sorted(groups.items())}


def over_groups(groups: Iterable[Means]) -> Means:
    """The means over groups, each counting the same: of their values, and of their curves as of images' in `means`."""
    groups = list(groups)
    own = [group for group in groups if group.curves]
    curve = {name: np.mean([group.curves[name] for group in own], axis=0) for name in CURVES} if own else {}
    return _means(
        [group.values for group in groups],
        curve,
        sum(group.images for group in groups),
        sum(group.distractors for group in groups),
    )


def _means(values, curve, images, distractors):
    found = {}
    for metric in METRICS:
        if metric.key in OF_THE_CURVE:
            name, statistic = OF_THE_CURVE[metric.key]
            if curve:
                found[metric.key] = float(statistic(curve[name]))
            continue
        numbers = [one[metric.key] for one in values if metric.key in one]
        if numbers:
            found[metric.key] = float(np.mean(numbers))
    return Means(found, curve, images, distractors)
