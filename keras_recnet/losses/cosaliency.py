"""Losses on RCAUNet's logits: per image, and between the images of a group.

Images have shape `(batch, images, height, width, 3)`, masks in 0…1 and logits `(batch, images, height, width, 1)`.
`RCAUNet.compute_loss` assigns padded images a weight of 0.
"""

import math
import os

import keras
from keras import ops

from keras_recnet import backbones
from keras_recnet.losses.saliency import SaliencyLoss

PERCEPTUAL_LAYERS = ("block3_conv1", "block4_conv1", "block5_conv1")  # relu3_1, relu4_1, relu5_1
POOLINGS = ("average", None)
CO_PERCEPTUAL_WEIGHT = 0.1  # λ of Eq. 15


def perceptual_features(
    image_size: int | tuple[int, int] = 224, *, weights: str | os.PathLike | None = "imagenet"
) -> keras.Model:
    """Build φ: the activations relu3_1, relu4_1 and relu5_1 of a frozen VGG-16.

    Args:
        image_size: height and width of the images, multiples of 16, at least 32.
        weights: as for `keras_recnet.backbones.vgg16`.

    Returns:
        A functional model from images `(batch, height, width, 3)`, RGB in 0…255, to a list of three feature maps.

    Raises:
        WeightsError: if the weights cannot be loaded.

    Reference:
        RCAU paper, Section 4.1; Gatys et al., "Image Style Transfer Using Convolutional Neural Networks", 2016.
    """
    vgg = backbones.vgg16(image_size, weights=weights)
    model = keras.Model(vgg.input, [vgg.get_layer(name).output for name in PERCEPTUAL_LAYERS], name="perceptual")
    model.trainable = False
    return model


def co_perceptual(images, y_true, y_pred, features, valid=None, pooling="average"):
    """Co-perceptual loss: the predicted object of an image should look like the masked objects of the other images.

    With a_n = φ(M_n ⊗ I_n) for the map M, b_m = φ(T_m ⊗ I_m) for the mask T and N counted images,
    `L_n = 1 / (V (N - 1)) Σ_{m ≠ n} ‖a_n - b_m‖²` (Eq. 14). Expanding around the mean b̄ of all b_m,
    `Σ_m ‖a_n - b_m‖² = N ‖a_n - b̄‖² + Σ_m ‖b_m - b̄‖²`, makes the cost linear in the group size and avoids
    cancellation of large numbers.

    An image is counted if it is valid and has an object: padding and distractors are excluded both as n and as m. The
    loss of a group with fewer than two counted images is 0. The gradient flows only through the maps.

    Args:
        images: `(batch, images, height, width, 3)`, RGB in 0…255. They are masked before φ's own preprocessing.
        y_true: masks, `(batch, images, height, width, 1)`, in 0…1.
        y_pred: maps (not logits), `(batch, images, height, width, 1)`, in 0…1.
        features: φ, a function from images `(batch, height, width, 3)` to a list of feature maps.
        valid: `(batch, images)`, False for padding; None: all images are valid.
        pooling: `"average"`: average each feature map over its positions, so that objects at different positions can be
            compared (ours; V is the number of channels). None: compare position by position, the literal reading of the
            paper (V is the number of all values).

    Returns:
        The losses `(batch, images)`, and a tensor of the same shape: 1 for each counted image, 0 for the others.

    Reference:
        RCAU paper, Eq. 13 and 14.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: pooling={pooling!r}")
    images, y_true, y_pred = (ops.cast(x, "float32") for x in (images, y_true, y_pred))
    counted = ops.cast(ops.any(y_true > 0, axis=(2, 3, 4)), "float32")
    if valid is not None:
        counted = counted * ops.cast(valid, "float32")
    weight = ops.expand_dims(counted, -1)
    group_shape = ops.shape(counted)

    def represent(masked):
        maps = features(ops.reshape(masked, (-1, *masked.shape[2:])))
        if pooling == "average":
            maps = [ops.mean(x, axis=(1, 2)) for x in maps]
        vectors = ops.concatenate([ops.reshape(x, (*group_shape, math.prod(x.shape[1:]))) for x in maps], axis=-1)
        return ops.cast(vectors, "float32")

    predicted = represent(images * y_pred)
    target = ops.stop_gradient(represent(images * y_true))
    count = ops.sum(counted, axis=1, keepdims=True)
    mean = ops.divide_no_nan(ops.sum(target * weight, axis=1, keepdims=True), ops.expand_dims(count, -1))
    spread = ops.sum(counted * _squared_norm(target - mean), axis=1, keepdims=True)
    others = count * _squared_norm(predicted - mean) + spread - _squared_norm(predicted - target)
    num_values = predicted.shape[-1]
    return counted * ops.divide_no_nan(others, num_values * ops.maximum(count - 1, 0)), counted


def _squared_norm(x):
    return ops.sum(ops.square(x), axis=-1)


@keras.saving.register_keras_serializable(package="keras_recnet")
class CoPerceptualLoss:
    """`co_perceptual` with its feature network φ. Not a Keras loss, because it needs the images.

    Pass it to `CoSaliencyLoss`; `RCAUNet` calls it with the images. φ is built on first use and kept outside the model,
    so that its weights are never saved with the model. The loss costs three passes per image through most of VGG-16,
    about one second at 224×224 on two cores. A smaller `image_size` and a later `start_epoch` reduce the cost.

    Args:
        image_size: height and width to which the masked images are resized for φ, multiples of 16, at least 32; None:
            no resizing.
        pooling: `"average"` or None, see `co_perceptual`.
        weights: weights of φ: `"imagenet"`, the path of a weights file, or None for random values.
        features: a replacement for VGG-16: a function from RGB images `(batch, height, width, 3)` in 0…255 to a list of
            feature maps. It is not saved. None: VGG-16.

    Call arguments:
        images, y_true, y_pred, valid: see `co_perceptual`.

    Output shape:
        A scalar: the mean over all counted images, 0 if there are none.

    Raises:
        ValueError: if `pooling` is unknown.
        WeightsError: on the first call, if the weights of φ cannot be loaded.

    Example:
        >>> loss = CoSaliencyLoss(co_perceptual=CoPerceptualLoss(image_size=112), start_epoch=5)
        >>> model.compile("adam", loss)

    Reference:
        RCAU paper, Eq. 13 and 14.
    """

    def __init__(self, *, image_size=None, pooling="average", weights="imagenet", features=None):
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: pooling={pooling!r}")
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.pooling = pooling
        self.weights = weights
        # wrapped in a function so that Keras does not track φ as part of the model
        self._features = None if features is None else lambda size: features

    def __call__(self, images, y_true, y_pred, valid=None):
        size = self.image_size or tuple(images.shape[2:4])
        images, y_true, y_pred = (self._resize(x, size) for x in (images, y_true, y_pred))
        values, counted = co_perceptual(images, y_true, y_pred, self._network(size), valid=valid, pooling=self.pooling)
        return ops.divide_no_nan(ops.sum(values), ops.sum(counted))

    def prepare(self, image_size: tuple[int, int]) -> None:
        """Build φ for images of this size. Call this method before φ is first used inside a traced function."""
        self._network(self.image_size or tuple(image_size))

    def _network(self, size):
        if self._features is None:
            network = perceptual_features(size, weights=self.weights)
            self._features = lambda size: network
        return self._features(size)

    @staticmethod
    def _resize(x, size):
        if tuple(x.shape[2:4]) == tuple(size):
            return x
        group_shape = ops.shape(x)[:2]
        x = ops.reshape(ops.cast(x, "float32"), (-1, *x.shape[2:]))
        x = ops.image.resize(x, size, interpolation="bilinear", antialias=True)
        return ops.reshape(x, (*group_shape, *x.shape[1:]))

    def get_config(self):
        return {
            "image_size": None if self.image_size is None else list(self.image_size),
            "pooling": self.pooling,
            "weights": None if self.weights is None else os.fspath(self.weights),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_recnet")
class CoSaliencyLoss(keras.losses.Loss):
    """RCAUNet's loss: cross-entropy per image plus the co-perceptual loss between the images of a group.

    `Σ_n w_n ℓ_n / Σ_n w_n + λ · co-perceptual`, where ℓ_n is an image's cross-entropy plus weighted absolute error,
    dice and IoU (see `SaliencyLoss`), and w_n is the sample weight (default: 1), or 0 for padded images. Dice and IoU
    are left out for images without an object (distractors): they compare regions, which such images lack.

    The paper's cross-entropy (Eq. 12) is a sum over pixels. With the mean over pixels, λ = 0.1 becomes 0.1 / (H·W).

    A Keras loss does not receive the images, so `RCAUNet` adds the co-perceptual loss. It does so only in training,
    which keeps validation losses comparable across epochs.

    Args:
        cross_entropy: `"plain"` or `"structure"`, see `SaliencyLoss`.
        absolute_weight: weight of the absolute error.
        dice_weight: weight of the dice loss.
        iou_weight: weight of the IoU loss.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.
        smooth: constant added to the numerator and denominator of dice and IoU, in pixels.
        co_perceptual: a `CoPerceptualLoss`, or None.
        co_perceptual_weight: λ; None: the paper's 0.1, divided by the number of pixels if `pixel_reduction="mean"`.
        start_epoch: first epoch of `fit` with the co-perceptual loss, counted from 0.
        **kwargs: `name`, `reduction` (default: the weighted mean above) and `dtype` of `keras.losses.Loss`.

    Input shape:
        Masks in 0…1 and logits, both `(batch, images, height, width, 1)`.

    Output shape:
        A scalar; `(batch, images)` with `reduction=None`.

    Raises:
        ValueError: if an argument is invalid or the shapes do not match.

    Example:
        >>> loss = CoSaliencyLoss(reduction=None)
        >>> masks, logits = keras.ops.ones((1, 2, 4, 4, 1)), keras.ops.zeros((1, 2, 4, 4, 1))
        >>> [round(float(value), 4) for value in loss(masks, logits)[0]]  # log 2
        [0.6931, 0.6931]

    Reference:
        RCAU paper, Eq. 12 and 15.
    """

    def __init__(
        self,
        *,
        cross_entropy: str = "plain",
        absolute_weight: float = 0.0,
        dice_weight: float = 0.0,
        iou_weight: float = 0.0,
        pixel_reduction: str = "mean",
        smooth: float = 1.0,
        co_perceptual: CoPerceptualLoss | None = None,
        co_perceptual_weight: float | None = None,
        start_epoch: int = 0,
        name: str = "co_saliency_loss",
        reduction: str = "mean_with_sample_weight",
        **kwargs,
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)
        if co_perceptual is not None and not callable(co_perceptual):
            raise ValueError(
                f"`co_perceptual` must be a `CoPerceptualLoss` or None. Received: co_perceptual={co_perceptual!r}"
            )
        if co_perceptual_weight is not None and not co_perceptual_weight >= 0:
            raise ValueError(
                f"`co_perceptual_weight` must not be negative. Received: co_perceptual_weight={co_perceptual_weight!r}"
            )
        self._image_loss = SaliencyLoss(
            cooperative_weight=0.0,
            cross_entropy=cross_entropy,
            absolute_weight=absolute_weight,
            dice_weight=dice_weight,
            iou_weight=iou_weight,
            pixel_reduction=pixel_reduction,
            smooth=smooth,
        )
        self.cross_entropy = cross_entropy
        self.absolute_weight = absolute_weight
        self.dice_weight = dice_weight
        self.iou_weight = iou_weight
        self.pixel_reduction = pixel_reduction
        self.smooth = smooth
        self.co_perceptual = co_perceptual
        self.co_perceptual_weight = co_perceptual_weight
        self.start_epoch = start_epoch
        self.active = start_epoch == 0

    def call(self, y_true, y_pred):
        if len(y_true.shape) != 5 or len(y_pred.shape) != 5 or y_pred.shape[-1] != 1:
            raise ValueError(
                f"Expected masks and logits (batch, images, height, width, 1). Received: y_true.shape="
                f"{tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        flat = [ops.reshape(x, (-1, *x.shape[2:])) for x in (y_true, y_pred)]
        has_object = ops.cast(ops.any(flat[0] > 0, axis=(1, 2, 3)), "float32")
        losses = self._image_loss.pixel_terms(*flat) + has_object * self._image_loss.region_terms(*flat)
        return ops.reshape(losses, ops.shape(y_pred)[:2])

    def prepare(self, image_size: tuple[int, int]) -> None:
        """Build the network of the co-perceptual loss for images of this size."""
        if hasattr(self.co_perceptual, "prepare"):
            self.co_perceptual.prepare(image_size)

    def co_perceptual_term(self, images, y_true, y_pred, valid=None):
        """Compute `λ · co-perceptual loss`, a scalar.

        Args:
            images: `(batch, images, height, width, 3)`, RGB in 0…255.
            y_true: masks, `(batch, images, height, width, 1)`, in 0…1.
            y_pred: logits, `(batch, images, height, width, 1)`.
            valid: `(batch, images)`, False for padding; None: all images are valid.
        """
        weight = self.co_perceptual_weight
        if weight is None:
            weight = CO_PERCEPTUAL_WEIGHT / (1 if self.pixel_reduction == "sum" else math.prod(y_pred.shape[2:4]))
        return weight * self.co_perceptual(images, y_true, ops.sigmoid(ops.cast(y_pred, "float32")), valid)

    def get_config(self):
        return {
            **super().get_config(),
            "cross_entropy": self.cross_entropy,
            "absolute_weight": self.absolute_weight,
            "dice_weight": self.dice_weight,
            "iou_weight": self.iou_weight,
            "pixel_reduction": self.pixel_reduction,
            "smooth": self.smooth,
            "co_perceptual": keras.saving.serialize_keras_object(self.co_perceptual),
            "co_perceptual_weight": self.co_perceptual_weight,
            "start_epoch": self.start_epoch,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "co_perceptual": keras.saving.deserialize_keras_object(config["co_perceptual"])})


class StartCoPerceptual(keras.callbacks.Callback):
    """Callback that enables the co-perceptual loss of a `CoSaliencyLoss` at its `start_epoch`.

    `RCAUNet.fit` adds it. The training function is retraced at that epoch, so earlier epochs have no extra cost.

    Args:
        loss: the `CoSaliencyLoss` that the model is compiled with.
    """

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def on_epoch_begin(self, epoch, logs=None):
        active = epoch >= self.loss.start_epoch
        if active != self.loss.active:
            self.loss.active = active
            self.model.make_train_function(force=True)
