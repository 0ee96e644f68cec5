import keras
import numpy as np
import pytest

from keras_recnet import metrics
from keras_recnet.layers.fusion import FUSIONS
from keras_recnet.metrics import SaliencyFMeasure, SaliencyMAE


def maps_of(count=5, size=(9, 11), seed=0):
    """Binary masks, the last one empty, and maps with values halfway between two of 256 levels."""
    rng = np.random.default_rng(seed)
    masks = (rng.uniform(size=(count, *size)) > 0.6).astype("float32")
    levels = np.clip(rng.integers(0, 255, masks.shape) * 0.6 + 90 * masks, 0, 254).astype(int)
    masks[-1] = 0
    return masks, (levels + 0.5) / 255


def logits_of(probability):
    return np.log(probability / (1 - probability)).astype("float32")


def updated(metric, masks, maps, batch=2):
    """Update a metric with all images, as one-channel logits in batches of unequal size; return its result."""
    for start in range(0, len(maps), batch):
        metric.update_state(masks[start : start + batch, ..., None], logits_of(maps[start : start + batch])[..., None])
    return float(metric.result())


def f_of(precision, recall, beta_squared=0.3):
    denominator = beta_squared * precision + recall
    return (1 + beta_squared) * precision * recall / denominator if denominator else 0.0


def precision_recall(mask, predicted):
    correct = int((predicted & (mask == 1)).sum())
    return correct / max(int(predicted.sum()), 1), correct / max(int(mask.sum()), 1)


def reference_curves(masks, maps, thresholds=256):
    """Precision and recall, (images, thresholds) each, from one comparison per threshold in float64."""
    levels = np.floor(maps.astype("float64") * (thresholds - 1))
    curves = [
        [precision_recall(mask, level >= t) for t in range(thresholds)]
        for mask, level in zip(masks, levels, strict=True)
    ]
    return np.moveaxis(np.array(curves), -1, 0)


def test_mae_is_the_mean_over_images_for_unequal_batches():
    masks, maps = maps_of()
    assert updated(SaliencyMAE(), masks, maps) == pytest.approx(np.abs(maps - masks).mean(), rel=1e-5)


def test_mae_does_not_threshold_soft_masks():
    assert updated(SaliencyMAE(), np.full((1, 2, 2), 0.25), np.full((1, 2, 2), 0.75)) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("thresholds", [256, 11])
def test_curve_and_mean_f_equal_one_comparison_per_threshold(thresholds):
    masks, maps = maps_of()
    precision, recall = reference_curves(masks, maps, thresholds)
    curve = max(f_of(p, r) for p, r in zip(precision.mean(0), recall.mean(0), strict=True))
    mean_f = np.mean(np.vectorize(f_of)(precision, recall), axis=0)
    assert updated(SaliencyFMeasure(thresholds=thresholds), masks, maps) == pytest.approx(curve, rel=1e-5)
    assert updated(SaliencyFMeasure(thresholds=thresholds, mode="mean_f"), masks, maps) == pytest.approx(
        mean_f.max(), rel=1e-5
    )


def test_adaptive_f_equals_a_loop_over_images():
    masks, maps = maps_of()
    maps[1] = np.clip(maps[1] + 0.5, 0, 0.998)  # twice its mean is above 1: no pixel is predicted
    expected = [f_of(*precision_recall(m, s >= min(2 * s.mean(), 1.0))) for m, s in zip(masks, maps, strict=True)]
    assert updated(SaliencyFMeasure(mode="adaptive"), masks, maps) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.filterwarnings("ignore:This class will be removed")
def test_the_metrics_equal_pysodmetrics_without_stretching():
    from py_sod_metrics import MAE, Fmeasure

    masks, maps = maps_of(seed=1)
    mae, fmeasure = MAE(), Fmeasure()
    for mask, saliency in zip(masks.astype(bool), maps, strict=True):
        mae.step(saliency, mask, normalize=False)
        fmeasure.step(saliency, mask, normalize=False)
    expected = fmeasure.get_results()
    curve = max(f_of(p, r) for p, r in zip(expected["pr"]["p"], expected["pr"]["r"], strict=True))
    assert updated(SaliencyMAE(), masks, maps) == pytest.approx(mae.get_results()["mae"], rel=1e-5)
    assert updated(SaliencyFMeasure(), masks, maps) == pytest.approx(curve, rel=1e-5)
    assert updated(SaliencyFMeasure(mode="mean_f"), masks, maps) == pytest.approx(
        expected["fm"]["curve"].max(), rel=1e-5
    )
    assert updated(SaliencyFMeasure(mode="adaptive"), masks, maps) == pytest.approx(expected["fm"]["adp"], rel=1e-5)


@pytest.mark.parametrize("mode", metrics.F_MODES)
def test_a_perfect_map_scores_1_and_an_empty_mask_scores_0(mode):
    mask = np.zeros((1, 4, 4))
    mask[:, :1] = 1
    perfect = np.where(mask, 1 - 1e-6, 1e-6)
    assert updated(SaliencyFMeasure(mode=mode), mask, perfect) == pytest.approx(1.0, abs=1e-5)
    assert updated(SaliencyFMeasure(mode=mode), 0 * mask, perfect) == 0.0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_fused_map_is_scored(fusion):
    masks, foreground = maps_of()
    _, background = maps_of(seed=3)
    logits = np.stack([logits_of(foreground), logits_of(background)], -1)
    fused = {
        "subtract": np.maximum(foreground - background, 0),
        "foreground": foreground,
        "inverse_background": 1 - background,
        "average": (foreground + 1 - background) / 2,
    }[fusion]
    metric = SaliencyMAE(fusion=fusion)
    metric.update_state(masks[..., None], logits)
    assert float(metric.result()) == pytest.approx(np.abs(fused - masks).mean(), rel=1e-5)


@pytest.mark.parametrize("metric", [SaliencyMAE(), *(SaliencyFMeasure(mode=mode) for mode in metrics.F_MODES)])
def test_images_are_weighted_and_reset_clears_the_state(metric):
    masks, maps = maps_of(count=4)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(masks[..., None], logits_of(maps)[..., None], sample_weight=np.array([0.0, 1.0, 2.0, 0.0]))
    weighted = float(metric.result())
    metric.reset_state()
    assert weighted == pytest.approx(updated(metric, masks[[1, 2, 2]], maps[[1, 2, 2]]), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_fit_reports_the_reference_values(dtype):
    masks, foreground = maps_of(count=6)
    logits = np.stack([logits_of(foreground), -logits_of(foreground)], -1)
    inputs = keras.Input((9, 11, 2))
    identity = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones", dtype=dtype)
    model = keras.Model(inputs, identity(inputs))
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        metrics=[SaliencyMAE("average"), SaliencyFMeasure("average", mode="adaptive", name="f")],
    )
    history = model.fit(logits, masks[..., None], batch_size=4, verbose=0).history
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    expected = [f_of(*precision_recall(m, s >= min(2 * s.mean(), 1.0))) for m, s in zip(masks, foreground, strict=True)]
    assert history["mae"][0] == pytest.approx(np.abs(foreground - masks).mean(), rel=tolerance)
    assert history["f"][0] == pytest.approx(np.mean(expected), rel=tolerance)


def test_evaluate_equals_eager_updates():
    masks, maps = maps_of(count=5)
    inputs = keras.Input((9, 11, 1))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model.compile(loss="mse", metrics=[SaliencyFMeasure(), SaliencyFMeasure(mode="mean_f", name="mean_f")])
    results = model.evaluate(logits_of(maps)[..., None], masks[..., None], batch_size=2, verbose=0, return_dict=True)
    assert results["f_measure"] == pytest.approx(updated(SaliencyFMeasure(), masks, maps), rel=1e-6)
    assert results["mean_f"] == pytest.approx(updated(SaliencyFMeasure(mode="mean_f"), masks, maps), rel=1e-6)


@pytest.mark.parametrize(
    "metric",
    [SaliencyMAE("average", name="mine"), SaliencyFMeasure("foreground", 64, "mean_f", 0.5, name="mine")],
    ids=["mae", "f"],
)
def test_a_metric_is_restored_from_its_configuration(metric):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: SaliencyMAE(fusion="max"),
        lambda: SaliencyFMeasure(fusion="max"),
        lambda: SaliencyFMeasure(mode="best"),
        lambda: SaliencyFMeasure(thresholds=1),
        lambda: SaliencyFMeasure(thresholds=0.5),
        lambda: SaliencyFMeasure(beta_squared=0),
        lambda: SaliencyMAE().update_state(np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 2))),
        lambda: SaliencyMAE().update_state(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 3))),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
