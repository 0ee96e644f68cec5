"""Losses on RecNet's logits: cross-entropy of the branches, their cooperation, dice, IoU and F3Net's weighting.

Every loss takes a mask `(batch, height, width, 1)` with values 0…1 and logits `(batch, height, width, 2)` (channel 0
foreground, channel 1 background) or `(batch, height, width, 1)` (foreground alone). The background is compared with
the complement of the mask, and the branches are summed. The result has one value an image, `(batch,)`.

All are computed in float32 whatever comes in, and from the logits: `log(1 - sigmoid(z))` is `log_sigmoid(-z)`, so that
values and gradients stay finite where a sigmoid rounds to 0 or 1.
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
    """What each branch says and should say.

    The branches come apart because arrays with two channels innermost make sums slow on a CPU.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.

    Returns:
        `[(mask, foreground logits), (1 - mask, background logits)]`, the first alone for one channel;
        `(batch, height, width, 1)` each, float32.

    Raises:
        ValueError: if the shapes do not fit.
    """
    mask, logits = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    shapes = tuple(mask.shape), tuple(logits.shape)
    fits = len(shapes[0]) == 4 and len(shapes[1]) == 4 and shapes[0][-1] == 1 and shapes[1][-1] in (1, 2)
    # An unknown extent (None) fits every other one.
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
    """Binary cross-entropy of each branch, summed over the branches (Eq. 4 of the RecNet paper).

    With mask `m`, foreground probability `f` and background probability `b` a pixel,
    `-[m log f + (1 - m) log(1 - f)] - [(1 - m) log b + m log(1 - b)]`; with one channel the first half alone.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.
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


def cooperative(y_true, y_pred, terms="both", epsilon=1e-4, pixel_reduction="mean"):
    """Cooperative loss: the branches shall agree, and shall not both claim a pixel (Eq. 5 of the RecNet paper).

    `KL(f ‖ 1 - b) + KL(f·b ‖ 0)`, each the divergence of two Bernoulli variables a pixel,
    `KL(p ‖ q) = p log(p / q) + (1 - p) log((1 - p) / (1 - q))`. The paper does not say what is summed (the reading is
    ours), and the divergence to 0 is infinite: `q` is clipped to `[epsilon, 1 - epsilon]`, in both terms.

    Args:
        y_true: mask; only its shape is looked at, the branches are compared with each other.
        y_pred: logits, `(batch, height, width, 2)`.
        terms: `"both"`, `"match"` (the first term alone) or `"overlap"` (the second alone).
        epsilon: bound of the second argument, between 0 and 0.5.
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
            f"model of one branch. Received: y_pred.shape={tuple(branches[0][1].shape)}"
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
        # 1 - f·b = (1 - f) (1 + e^z_f (1 - b)), whose logarithm stays finite where 1 - f·b itself rounds to 0.
        log_p = ops.log_sigmoid(z_f) + ops.log_sigmoid(z_b)
        log_not_p = log_not_f - ops.log_sigmoid(-(z_f + ops.log_sigmoid(-z_b)))
        divergence += f * ops.sigmoid(z_b) * (log_p - log_not_p + bound) + log_not_p - math.log1p(-epsilon)
    return _over_pixels(divergence, pixel_reduction)


def dice(y_true, y_pred, smooth=1.0):
    """Dice loss of each image and branch, summed over the branches.

    With probabilities `p` and targets `t` of one branch, sums over the pixels of one image:
    `1 - (2 Σ p t + smooth) / (Σ p + Σ t + smooth)`. It measures the region as a whole, so that a small object counts
    as much as a large one. `smooth` (pixels) keeps an image without an object defined.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        smooth: number of pixels added to both sides of the fraction; above 0.

    Returns:
        `(batch,)`.

    Reference:
        Milletari et al., "V-Net", 2016 (here with `p` and `t` in the denominator, not their squares).
    """
    regions = _region_sums(y_true, y_pred, smooth)
    return sum(1.0 - (2.0 * intersection + smooth) / (total + smooth) for intersection, total in regions)


def iou(y_true, y_pred, smooth=1.0):
    """IoU (Jaccard) loss of each image and branch, summed over the branches.

    With probabilities `p` and targets `t` of one branch, sums over the pixels of one image:
    `1 - (Σ p t + smooth) / (Σ p + Σ t - Σ p t + smooth)`.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        smooth: number of pixels added to both sides of the fraction; above 0.

    Returns:
        `(batch,)`.

    Reference:
        Qin et al., "BASNet", CVPR 2019.
    """
    return _iou_of(_region_sums(y_true, y_pred, smooth), smooth)


def structure_weight(y_true):
    """F3Net's weight of a pixel: `1 + 5 |average of the mask in 31×31 around it - mask|`, in 1…6.

    Pixels whose surroundings differ from them (edges, thin parts) weigh more. As in F3Net, what lies outside of the
    image counts as 0 and the average is always over 31² pixels.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.

    Returns:
        `(batch, height, width, 1)`, float32.

    Reference:
        Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", AAAI 2020, Eq. 5–8 and its code.
    """
    mask = ops.cast(y_true, "float32")
    if len(mask.shape) != 4 or mask.shape[-1] != 1:
        raise ValueError(f"Expected a mask (batch, height, width, 1). Received: y_true.shape={tuple(mask.shape)}")
    # The window is a product of two one-dimensional windows, each a matrix product with a band of ones: on a CPU many
    # times faster than pooling with stride 1. The mask has no gradient.
    rows, columns = (_band(ops.shape(mask)[axis]) for axis in (1, 2))
    mean = ops.matmul(ops.matmul(rows, ops.squeeze(mask, -1)), columns) / STRUCTURE_WINDOW**2
    return 1.0 + STRUCTURE_GAIN * ops.abs(ops.expand_dims(mean, -1) - mask)


def structure_cross_entropy(y_true, y_pred, pixel_reduction="mean"):
    """Cross-entropy of each branch, weighted by `structure_weight`, summed over the branches.

    `Σ w ce / Σ w` over the pixels of one image. Both branches take the weight of the mask: the same edges are hard for
    both. F3Net has the foreground alone.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        pixel_reduction: `"mean"` (F3Net's) or `"sum"`, the mean times the number of pixels.

    Returns:
        `(batch,)`.

    Reference:
        Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", AAAI 2020, Eq. 6. (Its code passes
        `reduce='none'` to PyTorch, which averages before the weights come in; this is the equation.)
    """
    cross_entropy = _cross_entropy_map(y_true, y_pred)
    weight = structure_weight(y_true)
    return _over_pixels(weight * cross_entropy, pixel_reduction) / ops.mean(weight, axis=(1, 2, 3))


def structure_iou(y_true, y_pred, smooth=1.0):
    """IoU loss with the pixels weighted by `structure_weight`, summed over the branches.

    `1 - (Σ w p t + smooth) / (Σ w (p + t) - Σ w p t + smooth)` for each image and branch.

    Args:
        y_true: mask, `(batch, height, width, 1)`, 0…1.
        y_pred: logits, `(batch, height, width, 2)` or `(batch, height, width, 1)`.
        smooth: added to both sides of the fraction; above 0.

    Returns:
        `(batch,)`.

    Reference:
        Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", AAAI 2020, Eq. 8.
    """
    return _iou_of(_region_sums(y_true, y_pred, smooth, weighted=True), smooth)


class _FunctionLoss(keras.losses.Loss):
    """What the thin classes share: a function and its arguments, which become attributes and the configuration."""

    function = None

    def __init__(self, arguments, name=None, reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _check_arguments(**arguments)
        self._arguments = arguments
        for argument, value in arguments.items():
            setattr(self, argument, value)

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred, **self._arguments)

    def get_config(self):
        return {**super().get_config(), **self._arguments}


@keras.saving.register_keras_serializable(package="keras_recnet")
class BranchCrossEntropy(_FunctionLoss):
    """`branch_cross_entropy` as a Keras loss; `**kwargs` (`name`, `reduction`, `dtype`) go to `keras.losses.Loss`."""

    function = staticmethod(branch_cross_entropy)

    def __init__(self, pixel_reduction="mean", **kwargs):
        super().__init__({"pixel_reduction": pixel_reduction}, **kwargs)


@keras.saving.register_keras_serializable(package="keras_recnet")
class Cooperative(_FunctionLoss):
    """`cooperative` as a Keras loss; `**kwargs` (`name`, `reduction`, `dtype`) go to `keras.losses.Loss`."""

    function = staticmethod(cooperative)

    def __init__(self, terms="both", epsilon=1e-4, pixel_reduction="mean", **kwargs):
        super().__init__({"terms": terms, "epsilon": epsilon, "pixel_reduction": pixel_reduction}, **kwargs)


@keras.saving.register_keras_serializable(package="keras_recnet")
class Dice(_FunctionLoss):
    """`dice` as a Keras loss; `**kwargs` (`name`, `reduction`, `dtype`) go to `keras.losses.Loss`."""

    function = staticmethod(dice)

    def __init__(self, smooth=1.0, **kwargs):
        super().__init__({"smooth": smooth}, **kwargs)


@keras.saving.register_keras_serializable(package="keras_recnet")
class IoU(_FunctionLoss):
    """`iou` as a Keras loss; `**kwargs` (`name`, `reduction`, `dtype`) go to `keras.losses.Loss`."""

    function = staticmethod(iou)

    def __init__(self, smooth=1.0, **kwargs):
        super().__init__({"smooth": smooth}, **kwargs)


@keras.saving.register_keras_serializable(package="keras_recnet")
class StructureCrossEntropy(_FunctionLoss):
    """`structure_cross_entropy` as a Keras loss; `**kwargs` (`name`, `reduction`, `dtype`): `keras.losses.Loss`."""

    function = staticmethod(structure_cross_entropy)

    def __init__(self, pixel_reduction="mean", **kwargs):
        super().__init__({"pixel_reduction": pixel_reduction}, **kwargs)


@keras.saving.register_keras_serializable(package="keras_recnet")
class StructureIoU(_FunctionLoss):
    """`structure_iou` as a Keras loss; `**kwargs` (`name`, `reduction`, `dtype`) go to `keras.losses.Loss`."""

    function = staticmethod(structure_iou)

    def __init__(self, smooth=1.0, **kwargs):
        super().__init__({"smooth": smooth}, **kwargs)


@keras.saving.register_keras_serializable(package="keras_recnet")
class SaliencyLoss(keras.losses.Loss):
    """RecNet's whole loss, with the field's region terms as options.

    `cross-entropy + cooperative_weight · cooperative + dice_weight · dice + iou_weight · IoU` for each image, where

    - cross-entropy is `branch_cross_entropy`, or `structure_cross_entropy` with `cross_entropy="structure"`,
    - cooperative is `cooperative(terms=cooperative_terms, epsilon=epsilon)`,
    - dice is `dice`,
    - IoU is `iou`, or `structure_iou` with `cross_entropy="structure"`.

    The default is the paper's loss (its weight is 1) with a mean over the pixels. `cross_entropy="structure"`,
    `cooperative_weight=0`, `iou_weight=1` is F3Net's loss on each branch. Each term is the sum over the branches.

    The paper's learning rates fit only a sum over the pixels: `pixel_reduction="sum"`. It multiplies cross-entropy and
    cooperative loss by the number of pixels; dice and IoU are fractions of an image and stay as they are. The images
    of a batch are averaged in both cases (`reduction`).

    Args:
        cooperative_weight: weight of the cooperative loss. With one-channel logits it must be 0.
        cooperative_terms: `"both"`, `"match"` (`KL(f ‖ 1 - b)` alone) or `"overlap"` (`KL(f·b ‖ 0)` alone).
        cross_entropy: `"plain"` or `"structure"`.
        dice_weight: weight of the dice loss.
        iou_weight: weight of the IoU loss.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.
        epsilon: bound of the second argument of the cooperative loss' divergences.
        smooth: pixels added to both sides of the fractions in dice and IoU.
        **kwargs: `name`, `reduction` and `dtype` of `keras.losses.Loss`.

    Input shape:
        Mask `(batch, height, width, 1)`, 0…1; logits `(batch, height, width, 2)` (channel 0 foreground, channel 1
        background) or `(batch, height, width, 1)`.

    Output shape:
        A scalar; `(batch,)` with `reduction=None`.

    Raises:
        ValueError: if an argument is none of those named, or the shapes do not fit together.

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
        cooperative_weight=1.0,
        cooperative_terms="both",
        cross_entropy="plain",
        dice_weight=0.0,
        iou_weight=0.0,
        pixel_reduction="mean",
        epsilon=1e-4,
        smooth=1.0,
        name="saliency_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        _check_arguments(terms=cooperative_terms, epsilon=epsilon, pixel_reduction=pixel_reduction, smooth=smooth)
        if cross_entropy not in CROSS_ENTROPIES:
            raise ValueError(
                f"`cross_entropy` must be one of {CROSS_ENTROPIES}. Received: cross_entropy={cross_entropy!r}"
            )
        weights = {"cooperative_weight": cooperative_weight, "dice_weight": dice_weight, "iou_weight": iou_weight}
        for argument, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"`{argument}` must be finite and not negative. Received: {argument}={weight!r}")
        self.cooperative_weight = cooperative_weight
        self.cooperative_terms = cooperative_terms
        self.cross_entropy = cross_entropy
        self.dice_weight = dice_weight
        self.iou_weight = iou_weight
        self.pixel_reduction = pixel_reduction
        self.epsilon = epsilon
        self.smooth = smooth

    def call(self, y_true, y_pred):
        structure = self.cross_entropy == "structure"
        cross_entropy = structure_cross_entropy if structure else branch_cross_entropy
        loss = cross_entropy(y_true, y_pred, self.pixel_reduction)
        if self.cooperative_weight:
            loss = loss + self.cooperative_weight * cooperative(
                y_true, y_pred, self.cooperative_terms, self.epsilon, self.pixel_reduction
            )
        if self.dice_weight:
            loss = loss + self.dice_weight * dice(y_true, y_pred, self.smooth)
        if self.iou_weight:
            loss = loss + self.iou_weight * (structure_iou if structure else iou)(y_true, y_pred, self.smooth)
        return loss

    def get_config(self):
        return {
            **super().get_config(),
            "cooperative_weight": self.cooperative_weight,
            "cooperative_terms": self.cooperative_terms,
            "cross_entropy": self.cross_entropy,
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
        raise ValueError(f"`epsilon` must lie between 0 and 0.5. Received: epsilon={epsilon!r}")
    if pixel_reduction not in PIXEL_REDUCTIONS:
        raise ValueError(
            f"`pixel_reduction` must be one of {PIXEL_REDUCTIONS}. Received: pixel_reduction={pixel_reduction!r}"
        )
    if not smooth > 0.0:
        raise ValueError(f"`smooth` must be above 0. Received: smooth={smooth!r}")


def _cross_entropy_map(y_true, y_pred):
    # -[t log p + (1 - t) log(1 - p)], as log(1 - p) = log p - z.
    return sum((1.0 - target) * logits - ops.log_sigmoid(logits) for target, logits in split_branches(y_true, y_pred))


def _over_pixels(values, pixel_reduction):
    _check_arguments(pixel_reduction=pixel_reduction)
    return (ops.sum if pixel_reduction == "sum" else ops.mean)(values, axis=(1, 2, 3))


def _region_sums(y_true, y_pred, smooth, weighted=False):
    """For each branch the sums over the pixels, `(batch,)`: probability times target, and probability plus target."""
    _check_arguments(smooth=smooth)
    branches = split_branches(y_true, y_pred)
    weight = structure_weight(y_true) if weighted else None
    sums = []
    for target, logits in branches:
        probability = ops.sigmoid(logits)
        both, either = probability * target, probability + target
        if weight is not None:
            both, either = weight * both, weight * either
        sums.append((ops.sum(both, axis=(1, 2, 3)), ops.sum(either, axis=(1, 2, 3))))
    return sums


def _iou_of(regions, smooth):
    return sum(1.0 - (intersection + smooth) / (total - intersection + smooth) for intersection, total in regions)


def _band(size):
    """`(size, size)`: 1 where row and column are less than half a window apart."""
    positions = ops.arange(size)
    distance = ops.abs(ops.expand_dims(positions, 1) - ops.expand_dims(positions, 0))
    return ops.cast(distance <= STRUCTURE_WINDOW // 2, "float32")
