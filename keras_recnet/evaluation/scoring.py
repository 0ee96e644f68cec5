"""Score one saliency map against its mask, with the metrics of pysodmetrics and three more.

pysodmetrics stretches every map to 0…1 before scoring it; here this is done once for all metrics. The pixel counts at
the 256 thresholds are also computed once, whereas pysodmetrics' F- and E-measure compute a histogram each. The tests
check that the curves equal pysodmetrics' own to within 1e-6.
"""

import dataclasses
import functools
import warnings

import numpy as np
from py_sod_metrics import MAE, Emeasure, FmeasureHandler, FmeasureV2, PrecisionHandler, RecallHandler, Smeasure
from py_sod_metrics import WeightedFmeasure as WeightedF

from keras_recnet.imaging.resizing import resize_map

BETA_SQUARED = 0.3  # for every F except weighted F, which has β = 1
THRESHOLDS = np.arange(256)
CURVES = ("precision", "recall", "f", "e")

_EPSILON = np.spacing(1)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Pixel counts of a map and its mask.

    Attributes:
        true_positives: int `(256,)`, number of object pixels where the stretched map is at least t/255, for t = 0…255.
        false_positives: int `(256,)`, the same for background pixels.
        object_pixels: number of object pixels.
        pixels: number of pixels.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    object_pixels: int
    pixels: int


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one map.

    Attributes:
        values: metric → value; only `distractor_mean` for a distractor.
        counts: pixel counts for the curves; None for a distractor.
        notes: special cases: `"distractors"`, `"full_mask"`, `"resized"`, `"swapped"`, `"s_undefined"`.
    """

    values: dict[str, float]
    counts: Counts | None
    notes: list[str]


def score(saliency_map: np.ndarray, mask: np.ndarray) -> Score:
    """Score one map.

    The map is first stretched to 0…1 (a constant map is not changed); μ is its mean and σ its standard deviation:

    - `mae`, `weighted_f`, `s_measure` (α = 0.5): as in pysodmetrics;
    - `max_f`, `mean_f`, `max_e`, `mean_e`: over the thresholds t/255, t = 0…255, of this image;
    - `adaptive_f`, `adaptive_e`: at the threshold min(2μ, 1);
    - `f_mean_plus_std`: F at the threshold min(μ + σ, 1), as in the RCAU paper (σ² is the mean over all N pixels; the
      paper does not specify N or N − 1);
    - `mae_unstretched`: mean absolute error of the map before stretching.

    F and S are undefined for a mask without an object (a distractor in a co-saliency group), and stretching would make
    an almost black map bright. Such an image only has `distractor_mean`, the mean of the map before stretching.

    Args:
        saliency_map: float `(h, w)` in 0…1; resized to the mask's size if it differs.
        mask: bool `(H, W)`, true for object pixels.
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
    numbers = {"FG": counts.object_pixels, "BG": counts.pixels - counts.object_pixels}
    adaptive = FmeasureV2().adaptively_binarizing(stretched, mask, **numbers)
    threshold = min(stretched.mean() + stretched.std(), stretched.max())  # the maximum is 1, unless the map is constant
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
    """Stretch a map linearly to 0…1, as pysodmetrics does. A constant map is returned unchanged."""
    low, high = saliency_map.min(), saliency_map.max()
    return saliency_map if low == high else (saliency_map - low) / (high - low)


def count(stretched: np.ndarray, mask: np.ndarray) -> Counts:
    """Count the pixels of a stretched map at all thresholds; equals `FmeasureV2.dynamically_binarizing`."""
    levels = (stretched * 255).astype(np.uint8)
    histogram = np.bincount(levels.ravel(), minlength=256)
    object_histogram = np.bincount(levels[mask], minlength=256)
    positives, true_positives = (np.cumsum(numbers[::-1])[::-1] for numbers in (histogram, object_histogram))
    return Counts(true_positives, positives - true_positives, int(true_positives[0]), mask.size)


def curves(counts: Counts) -> dict[str, np.ndarray]:
    """Compute precision, recall, F and E, each float64 `(256,)`, at the thresholds t/255, t = 0…255."""
    tp, fp, positives = counts.true_positives, counts.false_positives, counts.object_pixels
    numbers = {"tp": tp, "fp": fp, "tn": counts.pixels - positives - fp, "fn": positives - tp}
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
    """Compute the E-measure of binary maps from pixel counts, as `Emeasure` does from its own histogram."""
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
    """Compute S; NaN if the mask's center is in the last row or column, which leaves a quadrant empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mean of an empty quadrant
        return Smeasure().cal_sm(stretched, mask)
