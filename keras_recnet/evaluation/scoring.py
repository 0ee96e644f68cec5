"""One map against one mask: pysodmetrics' numbers, and the three that it has not.

pysodmetrics stretches every map to 0…1 before it scores it. So do we, once for all metrics, and hand it over as it is.
Its counts at the 256 thresholds are taken from one histogram here, which its F- and E-measure make anew each; the tests
hold the curves against its own to 1e-6.
"""

import dataclasses
import functools
import warnings

import numpy as np
from py_sod_metrics import MAE, Emeasure, FmeasureHandler, FmeasureV2, PrecisionHandler, RecallHandler, Smeasure
from py_sod_metrics import WeightedFmeasure as WeightedF

from keras_recnet.imaging.resizing import resize_map

BETA_SQUARED = 0.3  # of all F but the weighted one, whose β is 1
THRESHOLDS = np.arange(256)
CURVES = ("precision", "recall", "f", "e")

_EPSILON = np.spacing(1)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Pixels of a pair, by threshold on the stretched map.

    Attributes:
        hits: int `(256,)`: pixels of the object whose map reaches threshold t / 255, for t = 0…255.
        alarms: int `(256,)`: the same of the background.
        mask: pixels of the object.
        pixels: all pixels.
    """

    hits: np.ndarray
    alarms: np.ndarray
    mask: int
    pixels: int


@dataclasses.dataclass(frozen=True)
class Score:
    """What one map scores.

    Attributes:
        values: metric → value; a distractor has `distractor_mean` alone.
        counts: for the curves; None for a distractor.
        notes: what a reader should know: `"distractors"`, `"full_mask"`, `"resized"`, `"swapped"`, `"s_undefined"`.
    """

    values: dict[str, float]
    counts: Counts | None
    notes: list[str]


def score(saliency_map: np.ndarray, mask: np.ndarray) -> Score:
    """Scores one map.

    With the map `x` stretched to 0…1 (a constant map stays as it is), its mean μ and deviation σ:

    - `mae`, `weighted_f`, `s_measure` (α = 0.5): pysodmetrics';
    - `max_f`, `mean_f`, `max_e`, `mean_e`: over the thresholds t/255, t = 0…255, of this image;
    - `adaptive_f`, `adaptive_e`: at min(2μ, 1);
    - `f_mean_plus_std`: F at T = μ + σ, at most 1, the RCAU paper's (σ² is the mean over all N pixels; the paper does
      not say N or N − 1).
    - `mae_unstretched`: the error of the map as it is.

    A mask without an object (a distractor of a co-saliency group) has no F and no S, and stretching would turn an
    almost black map into a bright one: it gives `distractor_mean`, the unstretched map's mean, and nothing else.

    Args:
        saliency_map: float `(h, w)` in 0…1; resized to the mask's size if it differs.
        mask: bool `(H, W)`.
    """
    notes = []
    if saliency_map.shape != mask.shape:
        swapped = saliency_map.shape == mask.shape[::-1]
        saliency_map = resize_map(saliency_map.astype(np.float32), mask.shape).astype(np.float64)
        notes.append("swapped" if swapped else "resized")
    if not mask.any():
        return Score({"distractor_mean": float(saliency_map.mean())}, None, [*notes, "distractors"])
    if mask.all():
        notes.append("full_mask")
    stretched = stretch(saliency_map)
    s_measure = _s_measure(stretched, mask)
    if np.isnan(s_measure):
        s_measure = 0.0
        notes.append("s_undefined")
    counts = count(stretched, mask)
    numbers = {"FG": counts.mask, "BG": counts.pixels - counts.mask}
    adaptive = FmeasureV2().adaptively_binarizing(stretched, mask, **numbers)
    threshold = min(stretched.mean() + stretched.std(), stretched.max())  # 1, unless the map is constant
    at_mean_plus_std = FmeasureV2.get_statistics(stretched >= threshold, mask, **numbers)
    curve = curves(counts)
    values = {
        "mae": MAE().cal_mae(stretched, mask),
        "max_f": curve["f"].max(),
        "mean_f": curve["f"].mean(),
        "adaptive_f": _f_measure(**adaptive),
        "f_mean_plus_std": _f_measure(**at_mean_plus_std),
        "weighted_f": WeightedF().cal_wfm(stretched, mask),
        "s_measure": s_measure,
        "max_e": curve["e"].max(),
        "mean_e": curve["e"].mean(),
        "adaptive_e": _e_measure(**adaptive),
        "mae_unstretched": np.abs(saliency_map - mask).mean(),
    }
    return Score({name: float(value) for name, value in values.items()}, counts, notes)


def stretch(saliency_map: np.ndarray) -> np.ndarray:
    """The map with its smallest value at 0 and its largest at 1, as pysodmetrics does; a constant one stays."""
    low, high = saliency_map.min(), saliency_map.max()
    return saliency_map if low == high else (saliency_map - low) / (high - low)


def count(stretched: np.ndarray, mask: np.ndarray) -> Counts:
    """The counts of a stretched map at all thresholds: `FmeasureV2.dynamically_binarizing`, from one histogram."""
    levels = (stretched * 255).astype(np.uint8)
    histogram = np.bincount(levels.ravel(), minlength=256)
    of_object = np.bincount(levels[mask], minlength=256)
    reached, hits = (np.cumsum(numbers[::-1])[::-1] for numbers in (histogram, of_object))
    return Counts(hits, reached - hits, int(hits[0]), mask.size)


def curves(counts: Counts) -> dict[str, np.ndarray]:
    """Precision, recall, F and E, float64 `(256,)` each, at the thresholds t/255 for t = 0…255."""
    tp, fp = counts.hits, counts.alarms
    numbers = {"tp": tp, "fp": fp, "tn": counts.pixels - counts.mask - fp, "fn": counts.mask - tp}
    return {
        "precision": _handler(PrecisionHandler)(**numbers),
        "recall": _handler(RecallHandler)(**numbers),
        "f": _f_measure(**numbers),
        "e": _e_measure(**numbers),
    }


@functools.cache
def _handler(kind, **options):
    return kind(with_dynamic=False, with_adaptive=False, **options)


def _f_measure(tp, fp, tn, fn):
    return _handler(FmeasureHandler, beta=BETA_SQUARED)(tp=tp, fp=fp, tn=tn, fn=fn)


def _e_measure(tp, fp, tn, fn):
    """The E-measure of binary maps, by their counts: what `Emeasure` makes of its own histogram."""
    measure = Emeasure()
    measure.gt_size = int(np.max(tp + fp + tn + fn))
    measure.gt_fg_numel = int(np.max(tp + fn))
    if measure.gt_fg_numel == measure.gt_size:
        aligned = tp
    else:
        parts, pairs = measure.generate_parts_numel_combinations(tp, fp, tp + fp, tn + fn)
        aligned = sum(
            part * (2 * ours * theirs / (ours**2 + theirs**2 + _EPSILON) + 1) ** 2 / 4
            for part, (ours, theirs) in zip(parts, pairs, strict=True)
        )
    return aligned / (measure.gt_size - 1 + _EPSILON)


def _s_measure(stretched, mask):
    """NaN where the mask's centre rounds to the last row or column: a quarter of the picture is empty then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        return Smeasure().cal_sm(stretched, mask)
