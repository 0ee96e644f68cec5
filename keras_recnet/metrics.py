"""Streaming metrics for `fit` and `evaluate`: mean absolute error and F-measure of the fused map.

Both take a mask `(batch, height, width, 1)` in 0…1 and a model's logits, `(batch, height, width, 2)` or
`(batch, height, width, 1)`. They convert the logits to a map as `to_inference(fusion=…)` does and score it at
the model's input size. Use them to monitor training. For published results use `pysodmetrics`, the standard toolkit:
it stretches each 8-bit map to 0…1 and scores it at the size of the original image.
"""

import keras
from keras import ops

from keras_recnet.layers.fusion import FUSIONS
from keras_recnet.losses import split_branches

F_MODES = ("curve", "mean_f", "adaptive")


def fused_map(y_true, y_pred, fusion="subtract"):
    """Convert logits to a saliency map and return it with its mask.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)`, or `(batch, height, width, 1)`, which get only a sigmoid.
        fusion: fusion of two channels, see `keras_recnet.layers.Fusion`.

    Returns:
        Mask and map, `(batch, height, width, 1)` each, float32.
    """
    branches = split_branches(y_true, y_pred)
    probabilities = [ops.sigmoid(logits) for _, logits in branches]
    return branches[0][0], probabilities[0] if len(branches) == 1 else FUSIONS[fusion](*probabilities)


def absolute_error(mask, saliency):
    """Mean of `|map - mask|` over pixels.

    Args:
        mask: `(batch, height, width, 1)`, in 0…1.
        saliency: map, `(batch, height, width, 1)`, in 0…1.

    Returns:
        `(batch,)`.
    """
    return ops.mean(ops.abs(saliency - mask), axis=(1, 2, 3))


def precision_recall_curves(mask, saliency, thresholds=256):
    """Precision and recall of `floor(map · (thresholds - 1)) >= t` for `t` in 0…thresholds - 1.

    They are computed from one histogram per image and a cumulative sum. A fraction with denominator 0 (no predicted
    pixels, or an empty mask) is 0.

    Args:
        mask: `(batch, height, width, 1)`; foreground is above 0.5.
        saliency: map, `(batch, height, width, 1)`, in 0…1.
        thresholds: number of thresholds.

    Returns:
        Precision and recall, `(batch, thresholds)` each.
    """
    batch = ops.shape(mask)[0]
    levels = ops.cast(ops.floor(saliency * (thresholds - 1)), "int32")
    # One index per image, mask value and level, with levels innermost.
    images = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1))
    groups = (images * 2 + ops.cast(mask > 0.5, "int32")) * thresholds + levels
    pixels = ops.segment_sum(
        ops.ones_like(ops.reshape(saliency, (-1,))), ops.reshape(groups, (-1,)), num_segments=batch * 2 * thresholds
    )
    at_least = ops.flip(ops.cumsum(ops.flip(ops.reshape(pixels, (-1, 2, thresholds)), -1), axis=-1), -1)
    false_positive, true_positive = at_least[:, 0], at_least[:, 1]
    return (
        ops.divide_no_nan(true_positive, true_positive + false_positive),
        ops.divide_no_nan(true_positive, true_positive[:, :1]),
    )


def adaptive_precision_recall(mask, saliency):
    """Precision and recall of `map >= min(2 · mean of the map, 1)`.

    Args:
        mask: `(batch, height, width, 1)`; foreground is above 0.5.
        saliency: map, `(batch, height, width, 1)`, in 0…1.

    Returns:
        Precision and recall, `(batch,)` each.
    """
    threshold = ops.minimum(2.0 * ops.mean(saliency, axis=(1, 2, 3), keepdims=True), 1.0)
    predicted, actual = ops.cast(saliency >= threshold, "float32"), ops.cast(mask > 0.5, "float32")
    correct, predicted, actual = (ops.sum(pixels, axis=(1, 2, 3)) for pixels in (predicted * actual, predicted, actual))
    return ops.divide_no_nan(correct, predicted), ops.divide_no_nan(correct, actual)


def f_measure(precision, recall, beta_squared=0.3):
    """`(1 + β²) · precision · recall / (β² · precision + recall)`, 0 where both are 0.

    Args:
        precision: any shape.
        recall: same shape.
        beta_squared: β²; the usual 0.3 gives precision more weight.

    Returns:
        F-measure, same shape.
    """
    return ops.divide_no_nan((1.0 + beta_squared) * precision * recall, beta_squared * precision + recall)


class _SaliencyMetric(keras.metrics.Metric):
    """Base class of metrics that fuse logits and average over images."""

    def __init__(self, fusion, name, dtype):
        super().__init__(name=name, dtype=dtype)
        if fusion not in FUSIONS:
            raise ValueError(f"`fusion` must be one of {tuple(FUSIONS)}. Received: fusion={fusion!r}")
        self.fusion = fusion
        self.images = self.add_weight(shape=(), initializer="zeros", name="images")

    def _add(self, total, values, sample_weight):
        """Add values `(batch, …)`, weighted per image, to `total`, and return the sum of the weights."""
        if sample_weight is None:
            total.assign_add(ops.sum(values, axis=0))
            return ops.cast(ops.shape(values)[0], "float32")
        weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        total.assign_add(ops.tensordot(weight, values, axes=1))
        return ops.sum(weight)

    def get_config(self):
        return {**super().get_config(), "fusion": self.fusion}


@keras.saving.register_keras_serializable(package="keras_recnet")
class SaliencyMAE(_SaliencyMetric):
    """Mean absolute error of the fused map, averaged over pixels and then over images.

    For binary masks it equals `MAE` of `pysodmetrics` with `step(map, mask, normalize=False)`. By default,
    `pysodmetrics` stretches each map to 0…1 and thresholds the mask at 128 of 255. Here soft masks are not thresholded.

    Args:
        fusion: `"subtract"`, `"foreground"`, `"inverse_background"` or `"average"`; ignored for one-channel logits,
            which get only a sigmoid.
        name: name of the metric.
        dtype: dtype of its state.

    Input shape:
        Mask `(batch, height, width, 1)`, in 0…1; logits `(batch, height, width, 2)` or `(batch, height, width, 1)`;
        `sample_weight` `(batch,)`, optional.

    Output shape:
        A scalar.

    Example:
        >>> metric = SaliencyMAE(fusion="average")
        >>> metric.update_state(keras.ops.ones((1, 4, 4, 1)), keras.ops.zeros((1, 4, 4, 2)))
        >>> float(metric.result())
        0.5
    """

    def __init__(self, fusion="subtract", name="mae", dtype=None):
        super().__init__(fusion, name, dtype)
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = absolute_error(*fused_map(y_true, y_pred, self.fusion))
        self.images.assign_add(self._add(self.total, values, sample_weight))

    def result(self):
        return ops.divide_no_nan(self.total, self.images)


@keras.saving.register_keras_serializable(package="keras_recnet")
class SaliencyFMeasure(_SaliencyMetric):
    """F-measure of the fused map, over all images since the last reset.

    With the precision `P_i(t)` and recall `R_i(t)` of image `i` at threshold `t`, and
    `F = (1 + β²) P R / (β² P + R)`:

    - `mode="curve"`: `max_t F(mean_i P_i(t), mean_i R_i(t))`, the maximum on the precision-recall curve of all images
      (F from the precisions and recalls that `Fmeasure` of `pysodmetrics` returns as `pr`),
    - `mode="mean_f"`: `max_t mean_i F(P_i(t), R_i(t))` (the maximum of its `fm["curve"]`),
    - `mode="adaptive"`: `mean_i F` at the threshold `min(2 · mean of the map, 1)` of each image (its `fm["adp"]`).

    The values equal those of `pysodmetrics` with `step(map, mask, normalize=False)`, except for pixels exactly on a
    threshold in float32. By default, `pysodmetrics` stretches each map to 0…1 and binarizes the mask above 128 of 255.
    Here maps are not stretched, and the mask is binarized above 0.5. An empty mask scores 0 in both libraries.

    Args:
        fusion: `"subtract"`, `"foreground"`, `"inverse_background"` or `"average"`; ignored for one-channel logits,
            which get only a sigmoid.
        thresholds: number of thresholds, at least 2; not used with `mode="adaptive"`.
        mode: `"curve"`, `"mean_f"` or `"adaptive"`.
        beta_squared: β².
        name: name of the metric.
        dtype: dtype of its state.

    Input shape:
        Mask `(batch, height, width, 1)`, in 0…1; logits `(batch, height, width, 2)` or `(batch, height, width, 1)`;
        `sample_weight` `(batch,)`, optional.

    Output shape:
        A scalar.

    Example:
        >>> metric = SaliencyFMeasure(fusion="foreground")
        >>> mask = keras.ops.array([[[[1.0], [0.0]]]])
        >>> metric.update_state(mask, keras.ops.array([[[[3.0, 0.0], [-3.0, 0.0]]]]))
        >>> float(metric.result())
        1.0

    Reference:
        Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009.
    """

    def __init__(self, fusion="subtract", thresholds=256, mode="curve", beta_squared=0.3, name="f_measure", dtype=None):
        super().__init__(fusion, name, dtype)
        if mode not in F_MODES:
            raise ValueError(f"`mode` must be one of {F_MODES}. Received: mode={mode!r}")
        if not (isinstance(thresholds, int) and thresholds >= 2):
            raise ValueError(f"`thresholds` must be an integer of at least 2. Received: thresholds={thresholds!r}")
        if not beta_squared > 0:
            raise ValueError(f"`beta_squared` must be greater than 0. Received: beta_squared={beta_squared!r}")
        self.thresholds = thresholds
        self.mode = mode
        self.beta_squared = beta_squared
        shape = {"curve": (2, thresholds), "mean_f": (thresholds,), "adaptive": ()}[mode]
        self.total = self.add_weight(shape=shape, initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask, saliency = fused_map(y_true, y_pred, self.fusion)
        if self.mode == "adaptive":
            values = f_measure(*adaptive_precision_recall(mask, saliency), self.beta_squared)
        else:
            precision, recall = precision_recall_curves(mask, saliency, self.thresholds)
            values = (
                ops.stack([precision, recall], axis=1)
                if self.mode == "curve"
                else f_measure(precision, recall, self.beta_squared)
            )
        self.images.assign_add(self._add(self.total, values, sample_weight))

    def result(self):
        mean = ops.divide_no_nan(self.total, self.images)
        return ops.max(f_measure(mean[0], mean[1], self.beta_squared) if self.mode == "curve" else mean)

    def get_config(self):
        return {
            **super().get_config(),
            "thresholds": self.thresholds,
            "mode": self.mode,
            "beta_squared": self.beta_squared,
        }
