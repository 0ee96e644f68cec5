"""Our own metrics against plain loops; all others against pysodmetrics and against a golden file."""

import json
import warnings
from pathlib import Path

import numpy as np
import py_sod_metrics
import pytest

from keras_recnet.evaluation import scoring
from keras_recnet.evaluation.aggregation import means
from keras_recnet.evaluation.result_log import Record
from keras_recnet.evaluation.scoring import count, curves, score, stretch

from .conftest import draw

GOLDEN = Path(__file__).parent / "golden.json"
SEEDS = range(10)


@pytest.fixture(params=SEEDS)
def pair(request):
    return draw(request.param)


def f_with_a_loop(saliency, mask, threshold):
    tp = fp = fn = 0
    for value, is_object in zip(saliency.ravel().tolist(), mask.ravel().tolist(), strict=True):
        if value >= threshold:
            tp, fp = tp + is_object, fp + (not is_object)
        else:
            fn += is_object
    if not tp:
        return 0.0
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return 1.3 * precision * recall / (0.3 * precision + recall)


def mean_and_std_with_a_loop(values):
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5


def test_our_metrics_equal_plain_loops(pair):
    mask, saliency = pair
    raw = [value / 255 for value in saliency.ravel().tolist()]
    low, high = min(raw), max(raw)
    values = [(value - low) / (high - low) for value in raw]
    truth = mask.ravel().tolist()
    mean, deviation = mean_and_std_with_a_loop(values)
    expected = {
        "mae": sum(abs(value - is_object) for value, is_object in zip(values, truth, strict=True)) / len(values),
        "mae_unstretched": sum(abs(value - is_object) for value, is_object in zip(raw, truth, strict=True)) / len(raw),
        "adaptive_f": f_with_a_loop(np.array(values), mask, min(2 * mean, 1)),
        "f_mean_plus_std": f_with_a_loop(np.array(values), mask, min(mean + deviation, 1)),
    }
    scores = score(saliency / 255, mask).values
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_all_other_metrics_equal_pysodmetrics(pair):
    mask, saliency = pair
    reference, curve = by_pysodmetrics(saliency, mask)
    scored = score(saliency / 255, mask)
    assert {name: scored.values[name] for name in reference} == pytest.approx(reference, abs=1e-6)
    ours = curves(scored.counts)
    assert set(ours) == set(curve)
    for name, values in curve.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-6, err_msg=name)


def by_pysodmetrics(saliency, mask):
    """Score with each class of pysodmetrics separately; the curves are in order of ascending threshold."""
    binary = {"f": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)}
    binary["precision"] = py_sod_metrics.PrecisionHandler(with_dynamic=True, with_adaptive=False)
    binary["recall"] = py_sod_metrics.RecallHandler(with_dynamic=True, with_adaptive=False)
    counted = py_sod_metrics.FmeasureV2(binary)
    others = [
        py_sod_metrics.Emeasure(),
        py_sod_metrics.WeightedFmeasure(),
        py_sod_metrics.Smeasure(),
        py_sod_metrics.MAE(),
    ]
    for metric in (counted, *others):
        metric.step(saliency, mask.astype(np.uint8) * 255)
    f = counted.get_results()
    e, w, s, mae = (metric.get_results() for metric in others)
    curve = {name: f[name]["dynamic"][::-1] for name in binary} | {"e": e["em"]["curve"][::-1]}
    values = {
        "mae": mae["mae"],
        "max_f": curve["f"].max(),
        "mean_f": curve["f"].mean(),
        "adaptive_f": f["f"]["adaptive"],
        "weighted_f": w["wfm"],
        "s_measure": s["sm"],
        "max_e": curve["e"].max(),
        "mean_e": curve["e"].mean(),
        "adaptive_e": e["em"]["adp"],
    }
    return values, curve


def test_scores_equal_the_golden_file():
    golden = json.loads(GOLDEN.read_text())
    records = []
    for seed in SEEDS:
        mask, saliency = draw(seed)
        scored = score(saliency / 255, mask)
        assert scored.values == pytest.approx(golden["images"][seed], abs=1e-6)
        records.append(Record("set", "ours", str(seed), ("", ""), mask.shape, scored.values, scored.counts, []))
    result = means(records)
    assert result.values == pytest.approx(golden["means"], abs=1e-6)
    for name, values in golden["curves"].items():
        np.testing.assert_allclose(result.curves[name][:: golden["every"]], values, atol=1e-6, err_msg=name)


def test_the_means_of_the_golden_file_equal_pysodmetrics():
    golden = json.loads(GOLDEN.read_text())
    handlers = {"f": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=0.3)}
    f, e, s = py_sod_metrics.FmeasureV2(handlers), py_sod_metrics.Emeasure(), py_sod_metrics.Smeasure()
    for seed in SEEDS:
        mask, saliency = draw(seed)
        for metric in (f, e, s):
            metric.step(saliency, mask.astype(np.uint8) * 255)
    f, e = f.get_results()["f"], e.get_results()["em"]
    expected = {
        "max_f": f["dynamic"].max(),
        "mean_f": f["dynamic"].mean(),
        "adaptive_f": f["adaptive"],
        "max_e": e["curve"].max(),
        "mean_e": e["curve"].mean(),
        "adaptive_e": e["adp"],
        "s_measure": s.get_results()["sm"],
    }
    assert {name: golden["means"][name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_counts_equal_pysodmetrics(pair):
    mask, saliency = pair
    stretched = stretch(saliency / 255)
    counts = count(stretched, mask)
    reference = py_sod_metrics.FmeasureV2().dynamically_binarizing(
        stretched, mask, counts.object_pixels, counts.pixels - counts.object_pixels
    )
    np.testing.assert_array_equal(counts.true_positives, reference["tp"][::-1])
    np.testing.assert_array_equal(counts.false_positives, reference["fp"][::-1])


def test_a_distractor_only_has_the_mean_of_its_map():
    scored = score(np.full((5, 6), 0.125), np.zeros((5, 6), bool))
    assert scored.values == {"distractor_mean": 0.125}
    assert scored.counts is None
    assert scored.notes == ["distractors"]


def test_a_full_mask_is_scored():
    _, saliency = draw(3)
    mask = np.ones(saliency.shape, bool)
    reference, curve = by_pysodmetrics(saliency, mask)
    scored = score(saliency / 255, mask)
    assert scored.notes == ["full_mask"]
    assert {name: scored.values[name] for name in reference} == pytest.approx(reference, abs=1e-6)
    np.testing.assert_allclose(curves(scored.counts)["e"], curve["e"], atol=1e-6)


@pytest.mark.parametrize("pixels", [np.s_[-1, 2:5], np.s_[2:5, -1], np.s_[-2:, 3:5]])
def test_an_undefined_s_counts_as_0(pixels):
    mask = np.zeros((12, 16), bool)
    mask[pixels] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reference = py_sod_metrics.Smeasure().cal_sm(mask.astype(float), mask)
    scored = score(mask.astype(float), mask)
    if np.isnan(reference):
        assert scored.values["s_measure"] == 0.0
        assert scored.notes == ["s_undefined"]
    else:
        assert scored.values["s_measure"] == pytest.approx(reference)
        assert scored.notes == []


def test_s_is_undefined_only_if_the_mask_is_centered_in_the_last_row():
    mask = np.zeros((12, 16), bool)
    mask[-1, 4] = True
    assert score(np.eye(12, 16), mask).notes == ["s_undefined"]
    mask[:6] = True
    assert score(np.eye(12, 16), mask).notes == []


@pytest.mark.parametrize("value", [0.0, 0.3, 0.7, 1.0])
def test_a_constant_map_is_all_foreground_at_mean_plus_std(value):
    mask = np.zeros((10, 10), bool)
    mask[:, :4] = True
    assert score(np.full((10, 10), value), mask).values["f_mean_plus_std"] == pytest.approx(
        1.3 * 0.4 / (0.3 * 0.4 + 1), abs=1e-9
    )


def test_the_threshold_mean_plus_std_is_at_most_1():
    saliency = np.ones((10, 10))
    saliency[:, 0] = 0  # mean 0.9, standard deviation 0.3
    assert score(saliency, saliency > 0).values["f_mean_plus_std"] == pytest.approx(1)


def test_a_map_of_a_different_size_is_resized():
    mask, saliency = draw(1, (36, 48))
    scored = score(saliency[::2, ::2] / 255, mask)
    assert scored.notes == ["resized"]
    assert scored.values["mae"] == pytest.approx(score(saliency / 255, mask).values["mae"], abs=0.03)


def test_a_map_with_swapped_sides_is_noted():
    mask, saliency = draw(1, (36, 48))
    assert score(saliency.T / 255, mask).notes == ["swapped"]


def test_stretching_does_not_change_a_constant_map():
    np.testing.assert_array_equal(stretch(np.full((2, 2), 0.4)), 0.4)
    np.testing.assert_allclose(stretch(np.array([[0.2, 0.4, 0.6]])), [[0, 0.5, 1]])


def test_thresholds_are_ascending():
    assert scoring.THRESHOLDS[0] == 0
    mask, saliency = draw(0)
    assert curves(score(saliency / 255, mask).counts)["recall"][0] == 1
