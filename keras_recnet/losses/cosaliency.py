"""Losses on RCAUNet's logits: per image, and between the images of a group.

A group has images `(batch, images, height, width, 3)`, masks `(batch, images, height, width, 1)` with values 0…1 and
logits of the masks' shape. Padded images have weight 0; `RCAUNet.compute_loss` gives them that.
"""

import math
import os

import keras
from keras import ops

from keras_recnet import backbones
from keras_recnet.losses.saliency import SaliencyLoss

PERCEPTUAL_LAYERS = ("block3_conv1", "block4_conv1", "block5_conv1")  # relu3_1, relu4_1, relu5_1
POOLINGS = ("average", None)
BALANCE = 0.1  # λ of Eq. 15


def perceptual_features(
    image_size: int | tuple[int, int] = 224, *, weights: str | os.PathLike | None = "imagenet"
) -> keras.Model:
    """φ: the activations relu3_1, relu4_1 and relu5_1 of a frozen VGG-16.

    Args:
        image_size: height and width of the images, multiples of 16 from 32 on.
        weights: as for `keras_recnet.backbones.vgg16`.

    Returns:
        A functional model, `(batch, height, width, 3)` in RGB 0…255 → a list of three feature maps.

    Raises:
        WeightsError: if the weights cannot be had.

    Reference:
        RCAU paper, Section 4.1; Gatys et al., "Image Style Transfer Using Convolutional Neural Networks", 2016.
    """
    vgg = backbones.vgg16(image_size, weights=weights)
    model = keras.Model(vgg.input, [vgg.get_layer(name).output for name in PERCEPTUAL_LAYERS], name="perceptual")
    model.trainable = False
    return model


def co_perceptual(images, y_true, y_pred, features, valid=None, pooling="average"):
    """Co-perceptual loss: what is found in one image shall look like what lies under the masks of the others.

    With a_n = φ(M_n ⊗ I_n) of the map M, b_m = φ(T_m ⊗ I_m) of the mask T, and N images that count,
    `L_n = 1 / (V (N - 1)) Σ_{m ≠ n} ‖a_n - b_m‖²` (Eq. 14). Around the mean b̄ of the b the sum over m falls apart,
    `Σ_m ‖a_n - b_m‖² = N ‖a_n - b̄‖² + Σ_m ‖b_m - b̄‖²`, so that the cost is linear in the group and nothing is large
    that cancels.

    An image counts if it is valid and has an object: padded and distractors are left out as n and as m. Where fewer
    than two images count, the loss is 0. The gradient goes through the map alone.

    Args:
        images: `(batch, images, height, width, 3)`, RGB in 0…255. They are masked as they are, and φ preprocesses them.
        y_true: masks, `(batch, images, height, width, 1)`, 0…1.
        y_pred: maps (not logits), `(batch, images, height, width, 1)`, 0…1.
        features: φ, a function of `(batch, height, width, 3)` that gives a list of feature maps.
        valid: `(batch, images)`, which images are no padding; None: all.
        pooling: `"average"` over the positions of each feature map, so that objects in different places can be compared
            (ours; V is the sum of the channels); None: the literal reading (V is the sum of all values).

    Returns:
        `(batch, images)`, and as 0 and 1 of the same shape which images count.

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
    groups = ops.shape(counted)

    def represent(masked):
        maps = features(ops.reshape(masked, (-1, *masked.shape[2:])))
        if pooling == "average":
            maps = [ops.mean(x, axis=(1, 2)) for x in maps]
        vectors = ops.concatenate([ops.reshape(x, (*groups, math.prod(x.shape[1:]))) for x in maps], axis=-1)
        return ops.cast(vectors, "float32")

    found = represent(images * y_pred)
    there = ops.stop_gradient(represent(images * y_true))
    number = ops.sum(counted, axis=1, keepdims=True)
    mean = ops.divide_no_nan(ops.sum(there * weight, axis=1, keepdims=True), ops.expand_dims(number, -1))
    spread = ops.sum(counted * _squares(there - mean), axis=1, keepdims=True)
    others = number * _squares(found - mean) + spread - _squares(found - there)
    size = found.shape[-1]
    return counted * ops.divide_no_nan(others, size * ops.maximum(number - 1, 0)), counted


def _squares(x):
    return ops.sum(ops.square(x), axis=-1)


@keras.saving.register_keras_serializable(package="keras_recnet")
class CoPerceptualLoss:
    """`co_perceptual` with its network; not a Keras loss, since it needs the images.

    It is given to `CoSaliencyLoss`, and `RCAUNet` calls it with the images. φ is made when it is first needed and is
    held outside of the model, so that it lands in no weights file. It costs three passes through most of VGG-16 for
    each image, about a second at 224×224 on two cores: a smaller `image_size` and a late start make it cheap.

    Args:
        image_size: height and width at which φ looks at the masked images, multiples of 16 from 32 on; None: as they
            come.
        pooling: `"average"`, or None, the literal reading; see `co_perceptual`.
        weights: of φ: `"imagenet"`, the path of a weights file, or None for random values.
        features: None: VGG-16; or a function of `(batch, height, width, 3)` in RGB 0…255 that gives a list of feature
            maps. It is not saved.

    Call arguments:
        images, y_true, y_pred, valid: as of `co_perceptual`.

    Output shape:
        A scalar: the mean over all images that count; 0 if there is none.

    Raises:
        ValueError: if `pooling` is unknown.
        WeightsError: at the first call, if φ's weights cannot be had.

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
        # A function, not a network: Keras would take an attribute that is a network for a part of the model.
        self._features = None if features is None else lambda size: features

    def __call__(self, images, y_true, y_pred, valid=None):
        size = self.image_size or tuple(images.shape[2:4])
        images, y_true, y_pred = (self._resized(x, size) for x in (images, y_true, y_pred))
        values, counted = co_perceptual(images, y_true, y_pred, self._network(size), valid=valid, pooling=self.pooling)
        return ops.divide_no_nan(ops.sum(values), ops.sum(counted))

    def prepare(self, image_size: tuple[int, int]) -> None:
        """Makes φ for images of this size now, outside of a traced function."""
        self._network(self.image_size or tuple(image_size))

    def _network(self, size):
        if self._features is None:
            network = perceptual_features(size, weights=self.weights)
            self._features = lambda size: network
        return self._features(size)

    @staticmethod
    def _resized(x, size):
        if tuple(x.shape[2:4]) == tuple(size):
            return x
        groups = ops.shape(x)[:2]
        x = ops.reshape(ops.cast(x, "float32"), (-1, *x.shape[2:]))
        x = ops.image.resize(x, size, interpolation="bilinear", antialias=True)
        return ops.reshape(x, (*groups, *x.shape[1:]))

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
    """RCAUNet's whole loss: cross-entropy of each image, and the co-perceptual loss between them.

    `Σ_n w_n ℓ_n / Σ_n w_n + λ · co-perceptual`, where ℓ is the cross-entropy of an image, plus dice and IoU with their
    weights, as `SaliencyLoss` has them, and w is 0 for padded images and 1 or the given sample weight for others.

    The paper's cross-entropy (Eq. 12) is a sum over pixels. With a mean in its place, λ = 0.1 becomes 0.1 / (H·W).

    The co-perceptual loss needs the images: `RCAUNet` adds it to what this class gives, in training only, so that the
    loss on validation data means the same from the first epoch to the last.

    Args:
        cross_entropy: `"plain"` or `"structure"`, see `SaliencyLoss`, as the next four.
        dice_weight: weight of the dice loss.
        iou_weight: weight of the IoU loss.
        pixel_reduction: `"mean"` or `"sum"` over the pixels of an image.
        smooth: pixels added to both sides of the fractions in dice and IoU.
        co_perceptual: a `CoPerceptualLoss`, or None.
        co_perceptual_weight: λ; None: the paper's 0.1, over the number of pixels with `pixel_reduction="mean"`.
        start_epoch: the co-perceptual loss takes part from this epoch of `fit` on, counted from 0.
        **kwargs: `name`, `reduction` (default: the weighted mean above) and `dtype` of `keras.losses.Loss`.

    Input shape:
        Masks, 0…1, and logits, both `(batch, images, height, width, 1)`.

    Output shape:
        A scalar; `(batch, images)` with `reduction=None`.

    Raises:
        ValueError: if an argument is none of those named, or the shapes do not fit together.

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
        cross_entropy="plain",
        dice_weight=0.0,
        iou_weight=0.0,
        pixel_reduction="mean",
        smooth=1.0,
        co_perceptual=None,
        co_perceptual_weight=None,
        start_epoch=0,
        name="co_saliency_loss",
        reduction="mean_with_sample_weight",
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
        self._of_image = SaliencyLoss(
            cooperative_weight=0.0,
            cross_entropy=cross_entropy,
            dice_weight=dice_weight,
            iou_weight=iou_weight,
            pixel_reduction=pixel_reduction,
            smooth=smooth,
        )
        self.cross_entropy = cross_entropy
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
        merged = [ops.reshape(x, (-1, *x.shape[2:])) for x in (y_true, y_pred)]
        return ops.reshape(self._of_image.call(*merged), ops.shape(y_pred)[:2])

    def prepare(self, image_size: tuple[int, int]) -> None:
        """Makes the co-perceptual loss' network now, for images of this size."""
        if hasattr(self.co_perceptual, "prepare"):
            self.co_perceptual.prepare(image_size)

    def between_images(self, images, y_true, y_pred, valid=None):
        """`λ · co-perceptual loss`, a scalar.

        Args:
            images: `(batch, images, height, width, 3)`, RGB in 0…255.
            y_true: masks, `(batch, images, height, width, 1)`, 0…1.
            y_pred: logits, `(batch, images, height, width, 1)`.
            valid: `(batch, images)`, which images are no padding; None: all.
        """
        weight = self.co_perceptual_weight
        if weight is None:
            weight = BALANCE / (1 if self.pixel_reduction == "sum" else math.prod(y_pred.shape[2:4]))
        return weight * self.co_perceptual(images, y_true, ops.sigmoid(ops.cast(y_pred, "float32")), valid)

    def get_config(self):
        return {
            **super().get_config(),
            "cross_entropy": self.cross_entropy,
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
    """Lets the co-perceptual loss of a `CoSaliencyLoss` take part from its `start_epoch` on; `RCAUNet.fit` adds it.

    The training function is traced anew at that epoch, so the epochs before it cost nothing.

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
