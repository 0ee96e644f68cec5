"""Losses on RecNet's logits: branch cross-entropy, absolute error, cooperative loss, dice, IoU and F3Net's weighting.

Every loss function takes a mask `(batch, height, width, 1)` in 0…1 and logits `(batch, height, width, 2)` (channel 0
foreground, channel 1 background) or `(batch, height, width, 1)` (foreground only). The background branch is compared
with `1 - mask`, and the losses of the branches are summed. The result is one value per image, `(batch,)`.

Everything is computed in float32, whatever the input type, and from logits rather than probabilities: writing
`log(1 - sigmoid(z))` as `log_sigmoid(-z)` keeps values and gradients finite where a sigmoid rounds to 0 or 1.
"""

import math

import keras
from keras import ops

COOPERATIVE_TERMS = ("both", "match", "overlap")
CROSS_ENTROPIES = ("plain", "structure")
PIXEL_REDUCTIONS = ("mean", "sum")
STRUCTURE_WINDOW = 31
STRUCTURE_GAIN = 5.0


def split_branches(y_true, y_pred):
    """Split two-channel logits into branches and pair each branch with its target.

    Separate tensors are faster: sums over arrays whose innermost dimension is 2 are slow on a CPU.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.

    Returns:
        `[(mask, foreground logits), (1 - mask, background logits)]`, or only the first pair for one channel. Each
        tensor is `(batch, height, width, 1)`, float32.

    Raises:
        ValueError: if the shapes do not match.
    """
    mask, logits = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    shapes = tuple(mask.shape), tuple(logits.shape)
    fits = len(shapes[0]) == 4 and len(shapes[1]) == 4 and shapes[0][-1] == 1 and shapes[1][-1] in (1, 2)
    # An unknown dimension (None) matches any size.
    if not (fits and all(m == z or m is None or z is None for m, z in zip(shapes[0][:3], shapes[1][:3], strict=True))):
        raise ValueError(
            "Expected a mask (batch, height, width, 1) and logits (batch, height, width, 2) or (batch, height, width, "
            f"1) of the same size. Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
        )
    mask, logits = ops.cast(mask, "float32"), ops.cast(logits, "float32")
    if shapes[1][-1] == 1:
        return [(mask, logits)]
    foreground, background = ops.split(logits, 2, axis=-1)
    return [(mask, foreground), (1.0 - mask, background)]


def branch_cross_entropy(y_true, y_pred, pixel_reduction="mean"):
    """Binary cross-entropy of each branch, summed over the branches.

    With the mask `m`, foreground probability `f` and background probability `b` of a pixel:
    `-[m log f + (1 - m) log(1 - f)] - [(1 - m) log b + m log(1 - b)]`. One-channel logits have only the first half.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.

    Returns:
        `(batch,)`.

    Example:
        >>> mask, logits = keras.ops.ones((1, 4, 4, 1)), keras.ops.zeros((1, 4, 4, 2))
        >>> float(branch_cross_entropy(mask, logits)[0])  # 2 log 2  # doctest: +ELLIPSIS
        1.38629...

    Reference:
        RecNet paper, Eq. 4.
    """
    return _over_pixels(_cross_entropy_map(y_true, y_pred), pixel_reduction)


def absolute_error(y_true, y_pred, pixel_reduction="mean"):
    """Absolute error of each branch, summed over the branches.

    `|p - t|` per pixel, for the probability `p` and the target `t` of a branch. Cross-entropy alone is lowest for
    probabilities that equal the uncertainty, for example at the edges of objects; the absolute error is lowest for maps
    of 0 and 1, and its gradient is small for pixels that are confidently wrong.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.

    Returns:
        `(batch,)`.

    Example:
        >>> mask, logits = keras.ops.ones((1, 4, 4, 1)), keras.ops.zeros((1, 4, 4, 2))
        >>> float(absolute_error(mask, logits)[0])  # 0.5 per branch
        1.0
    """
    branches = split_branches(y_true, y_pred)
    return _over_pixels(sum(ops.abs(ops.sigmoid(logits) - target) for target, logits in branches), pixel_reduction)


def cooperative(y_true, y_pred, terms="both", epsilon=1e-4, pixel_reduction="mean"):
    """Cooperative loss: penalizes branches that disagree, and pixels that both branches claim.

    `KL(f ‖ 1 - b) + KL(f·b ‖ 0)` per pixel, where
    `KL(p ‖ q) = p log(p / q) + (1 - p) log((1 - p) / (1 - q))` is the divergence of two Bernoulli variables. The paper
    does not define the divergence of two maps; the sum over pixels is our reading. A divergence from 0 would be
    infinite, so `q` is clipped to `[epsilon, 1 - epsilon]` in both terms.

    Args:
        y_true: mask; only its shape is used, because the branches are compared with each other.
        y_pred: logits, `(batch, height, width, 2)`.
        terms: `"both"`, `"match"` (first term only) or `"overlap"` (second term only).
        epsilon: clipping bound of `q`, between 0 and 0.5.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.

    Returns:
        `(batch,)`.

    Reference:
        RecNet paper, Eq. 5.
    """
    _check_arguments(terms=terms, epsilon=epsilon)
    branches = split_branches(y_true, y_pred)
    if len(branches) != 2:
        raise ValueError(
            "The cooperative loss compares two branches and needs logits with 2 channels; set its weight to 0 for a "
            f"model with one branch. Received: y_pred.shape={tuple(branches[0][1].shape)}"
        )
    (_, z_f), (_, z_b) = branches
    f, log_not_f = ops.sigmoid(z_f), ops.log_sigmoid(-z_f)
    # With the logits z of p and q: KL(p ‖ q) = p (z_p - z_q) + log(1 - p) - log(1 - q).
    divergence = 0.0
    bound = math.log1p(-epsilon) - math.log(epsilon)
    if terms != "overlap":
        z_q = ops.clip(-z_b, -bound, bound)
        divergence = f * (z_f - z_q) + log_not_f - ops.log_sigmoid(-z_q)
    if terms != "match":
        # 1 - f·b = (1 - f) (1 + e^z_f (1 - b)), and the log of the product stays finite where 1 - f·b rounds to 0.
        log_p = ops.log_sigmoid(z_f) + ops.log_sigmoid(z_b)
        log_not_p = log_not_f - ops.log_sigmoid(-(z_f + ops.log_sigmoid(-z_b)))
        divergence += f * ops.sigmoid(z_b) * (log_p - log_not_p + bound) + log_not_p - math.log1p(-epsilon)
    return _over_pixels(divergence, pixel_reduction)


def dice(y_true, y_pred, smooth=1.0):
    """Dice loss of each branch, summed over the branches.

    `1 - (2 Σ p t + smooth) / (Σ p + Σ t + smooth)`, where `p` are the probabilities and `t` the targets of a branch and
    the sums are over the pixels of an image. The loss compares whole regions, so a small object counts as much as a
    large one. `smooth` keeps the loss defined for images without an object.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        smooth: number added to numerator and denominator, in pixels; greater than 0.

    Returns:
        `(batch,)`.

    Reference:
        Milletari et al., "V-Net", 2016 (with `p` and `t` in the denominator instead of their squares).
    """
    regions = _region_sums(y_true, y_pred, smooth)
    return sum(1.0 - (2.0 * intersection + smooth) / (total + smooth) for intersection, total in regions)


def iou(y_true, y_pred, smooth=1.0):
    """IoU (Jaccard) loss of each branch, summed over the branches.

    `1 - (Σ p t + smooth) / (Σ p + Σ t - Σ p t + smooth)`, where `p` are the probabilities and `t` the targets of a
    branch and the sums are over the pixels of an image.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        smooth: number added to numerator and denominator, in pixels; greater than 0.

    Returns:
        `(batch,)`.

    Reference:
        Qin et al., "BASNet", CVPR 2019.
    """
    return _iou_of(_region_sums(y_true, y_pred, smooth), smooth)


def structure_weight(y_true):
    """Compute F3Net's pixel weights, `1 + 5 |mean of the mask in a 31×31 window - mask|`, in 1…6.

    Pixels that differ from their surroundings (edges, thin parts) get larger weights. As in F3Net, the mask is padded
    with zeros, and the mean is always over 31² pixels.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.

    Returns:
        `(batch, height, width, 1)`, float32.

    Reference:
        Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", AAAI 2020, Eq. 5–8 and its code.
    """
    mask = ops.cast(y_true, "float32")
    if len(mask.shape) != 4 or mask.shape[-1] != 1:
        raise ValueError(f"Expected a mask (batch, height, width, 1). Received: y_true.shape={tuple(mask.shape)}")
    # The window is separable, and each 1-D window is a matrix product with a band of ones. On a CPU this is many times
    # faster than pooling with stride 1. The mask has no gradient.
    rows, columns = (_band(ops.shape(mask)[axis]) for axis in (1, 2))
    mean = ops.matmul(ops.matmul(rows, ops.squeeze(mask, -1)), columns) / STRUCTURE_WINDOW**2
    return 1.0 + STRUCTURE_GAIN * ops.abs(ops.expand_dims(mean, -1) - mask)


def structure_cross_entropy(y_true, y_pred, pixel_reduction="mean"):
    """Cross-entropy of each branch with pixels weighted by `structure_weight`, summed over the branches.

    `Σ w ce / Σ w` over the pixels of an image. Both branches use the same weights `w`, computed from the mask, because
    the same edges are difficult for both. F3Net has only a foreground branch.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        pixel_reduction: `"mean"` (F3Net) or `"sum"`, the mean times the number of pixels.

    Returns:
        `(batch,)`.

    Reference:
        Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", AAAI 2020, Eq. 6. (Its code passes
        `reduce='none'` to PyTorch, which averages before the weights are applied; this function follows the equation.)
    """
    cross_entropy = _cross_entropy_map(y_true, y_pred)
    weight = structure_weight(y_true)
    return _over_pixels(weight * cross_entropy, pixel_reduction) / ops.mean(weight, axis=(1, 2, 3))


def structure_iou(y_true, y_pred, smooth=1.0):
    """IoU loss with pixels weighted by `structure_weight`, summed over the branches.

    `1 - (Σ w p t + smooth) / (Σ w (p + t) - Σ w p t + smooth)` per image and branch.

    Args:
        y_true: mask, `(batch, height, width, 1)`, in 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        smooth: number added to numerator and denominator; greater than 0.

    Returns:
        `(batch,)`.

    Reference:
        Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", AAAI 2020, Eq. 8.
    """
    return _iou_of(_region_sums(y_true, y_pred, smooth, weighted=True), smooth)


@keras.saving.register_keras_serializable(package="keras_recnet")
class SaliencyLoss(keras.losses.Loss):
    """RecNet's loss: cross-entropy, cooperative loss and, optionally, absolute error, dice and IoU.

    Per image: `cross-entropy + cooperative_weight · cooperative + absolute_weight · absolute error + dice_weight · dice
    + iou_weight · IoU`, where

    - cross-entropy is `branch_cross_entropy`, or `structure_cross_entropy` with `cross_entropy="structure"`,
    - cooperative is `cooperative(terms=cooperative_terms, epsilon=epsilon)`,
    - absolute error is `absolute_error`,
    - dice is `dice`,
    - IoU is `iou`, or `structure_iou` with `cross_entropy="structure"`.

    Each term is a sum over the branches. The default is the paper's loss, with the mean over pixels.
    `cross_entropy="structure"`, `cooperative_weight=0`, `iou_weight=1` is F3Net's loss for each branch.

    The paper's learning rates require `pixel_reduction="sum"`, which multiplies the terms per pixel (cross-entropy,
    cooperative loss and absolute error) by the number of pixels. Dice and IoU are ratios and stay the same. `reduction`
    averages over the images of a batch in both cases.

    Args:
        cooperative_weight: weight of the cooperative loss. Must be 0 for one-channel logits.
        cooperative_terms: `"both"`, `"match"` (only `KL(f ‖ 1 - b)`) or `"overlap"` (only `KL(f·b ‖ 0)`).
        cross_entropy: `"plain"` or `"structure"`.
        absolute_weight: weight of the absolute error.
        dice_weight: weight of the dice loss.
        iou_weight: weight of the IoU loss.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.
        epsilon: clipping bound of the cooperative loss.
        smooth: number added to numerator and denominator of dice and IoU, in pixels.
        **kwargs: `name`, `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        Mask `(batch, height, width, 1)`, in 0…1; logits `(batch, height, width, 2)` (channel 0 foreground, channel 1
        background) or `(batch, height, width, 1)`.

    Output shape:
        A scalar; `(batch,)` with `reduction=None`.

    Raises:
        ValueError: if an argument is invalid or the shapes do not match.

    Example:
        >>> loss = SaliencyLoss(cooperative_weight=0.1, cooperative_terms="match", dice_weight=0.5)
        >>> mask, logits = keras.ops.ones((1, 4, 4, 1)), keras.ops.zeros((1, 4, 4, 2))
        >>> float(loss(mask, logits))  # 2 log 2 + 0.1 · 0 + 0.5 · (8 / 25 + 8 / 9)  # doctest: +ELLIPSIS
        1.990...

    Reference:
        RecNet paper, Eq. 4 and 5.
    """

    def __init__(
        self,
        cooperative_weight: float = 1.0,
        cooperative_terms: str = "both",
        cross_entropy: str = "plain",
        absolute_weight: float = 0.0,
        dice_weight: float = 0.0,
        iou_weight: float = 0.0,
        pixel_reduction: str = "mean",
        epsilon: float = 1e-4,
        smooth: float = 1.0,
        name: str = "saliency_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        _check_arguments(terms=cooperative_terms, epsilon=epsilon, pixel_reduction=pixel_reduction, smooth=smooth)
        if cross_entropy not in CROSS_ENTROPIES:
            raise ValueError(
                f"`cross_entropy` must be one of {CROSS_ENTROPIES}. Received: cross_entropy={cross_entropy!r}"
            )
        weights = {
            "cooperative_weight": cooperative_weight,
            "absolute_weight": absolute_weight,
            "dice_weight": dice_weight,
            "iou_weight": iou_weight,
        }
        for argument, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"`{argument}` must be finite and not negative. Received: {argument}={weight!r}")
        self.cooperative_weight = cooperative_weight
        self.cooperative_terms = cooperative_terms
        self.cross_entropy = cross_entropy
        self.absolute_weight = absolute_weight
        self.dice_weight = dice_weight
        self.iou_weight = iou_weight
        self.pixel_reduction = pixel_reduction
        self.epsilon = epsilon
        self.smooth = smooth

    def call(self, y_true, y_pred):
        return self.pixel_terms(y_true, y_pred) + self.region_terms(y_true, y_pred)

    def pixel_terms(self, y_true, y_pred):
        """Compute cross-entropy, cooperative loss and absolute error, `(batch,)`."""
        cross_entropy = structure_cross_entropy if self.cross_entropy == "structure" else branch_cross_entropy
        loss = cross_entropy(y_true, y_pred, self.pixel_reduction)
        if self.cooperative_weight:
            loss = loss + self.cooperative_weight * cooperative(
                y_true, y_pred, self.cooperative_terms, self.epsilon, self.pixel_reduction
            )
        if self.absolute_weight:
            loss = loss + self.absolute_weight * absolute_error(y_true, y_pred, self.pixel_reduction)
        return loss

    def region_terms(self, y_true, y_pred):
        """Compute dice and IoU, `(batch,)`; 0.0 if both have no weight."""
        loss = 0.0
        if self.dice_weight:
            loss = loss + self.dice_weight * dice(y_true, y_pred, self.smooth)
        if self.iou_weight:
            overlap = structure_iou if self.cross_entropy == "structure" else iou
            loss = loss + self.iou_weight * overlap(y_true, y_pred, self.smooth)
        return loss

    def get_config(self):
        return {
            **super().get_config(),
            "cooperative_weight": self.cooperative_weight,
            "cooperative_terms": self.cooperative_terms,
            "cross_entropy": self.cross_entropy,
            "absolute_weight": self.absolute_weight,
            "dice_weight": self.dice_weight,
            "iou_weight": self.iou_weight,
            "pixel_reduction": self.pixel_reduction,
            "epsilon": self.epsilon,
            "smooth": self.smooth,
        }


def _check_arguments(terms="both", epsilon=1e-4, pixel_reduction="mean", smooth=1.0):
    if terms not in COOPERATIVE_TERMS:
        raise ValueError(f"The cooperative terms must be one of {COOPERATIVE_TERMS}. Received: {terms!r}")
    if not 0.0 < epsilon < 0.5:
        raise ValueError(f"`epsilon` must be between 0 and 0.5. Received: epsilon={epsilon!r}")
    if pixel_reduction not in PIXEL_REDUCTIONS:
        raise ValueError(
            f"`pixel_reduction` must be one of {PIXEL_REDUCTIONS}. Received: pixel_reduction={pixel_reduction!r}"
        )
    if not smooth > 0.0:
        raise ValueError(f"`smooth` must be greater than 0. Received: smooth={smooth!r}")


def _cross_entropy_map(y_true, y_pred):
    # -[t log p + (1 - t) log(1 - p)], as log(1 - p) = log p - z.
    return sum((1.0 - target) * logits - ops.log_sigmoid(logits) for target, logits in split_branches(y_true, y_pred))


def _over_pixels(values, pixel_reduction):
    _check_arguments(pixel_reduction=pixel_reduction)
    return (ops.sum if pixel_reduction == "sum" else ops.mean)(values, axis=(1, 2, 3))


def _region_sums(y_true, y_pred, smooth, weighted=False):
    """Sums over pixels of probability · target and of probability + target, `(batch,)` each, for every branch."""
    _check_arguments(smooth=smooth)
    branches = split_branches(y_true, y_pred)
    weight = structure_weight(y_true) if weighted else None
    sums = []
    for target, logits in branches:
        probability = ops.sigmoid(logits)
        product, total = probability * target, probability + target
        if weight is not None:
            product, total = weight * product, weight * total
        sums.append((ops.sum(product, axis=(1, 2, 3)), ops.sum(total, axis=(1, 2, 3))))
    return sums


def _iou_of(regions, smooth):
    return sum(1.0 - (intersection + smooth) / (total - intersection + smooth) for intersection, total in regions)


def _band(size):
    """Band matrix `(size, size)` with ones where row and column are at most half a window apart."""
    positions = ops.arange(size)
    distance = ops.abs(ops.expand_dims(positions, 1) - ops.expand_dims(positions, 0))
    return ops.cast(distance <= STRUCTURE_WINDOW // 2, "float32")
