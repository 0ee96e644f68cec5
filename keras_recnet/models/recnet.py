"""RecNet: salient object detection with a foreground and a background branch and reciprocal attention."""

import os

import keras
import numpy as np
from keras import layers

from keras_recnet import backbones
from keras_recnet.layers import FUSIONS, FeatureIntegration, Fusion, PredictionHead, ReciprocalAttention
from keras_recnet.layers.fusion import SINGLE
from keras_recnet.models.preset_model import PresetModel

STRIDE = 8  # of the integrated features and of the attention
BRANCHES = ("both", "foreground")
HEAD_STRIDES = (8, 4, 2)


@keras.saving.register_keras_serializable(package="keras_recnet")
class RecNet(PresetModel, keras.Model):
    """RecNet, a functional model from an image to foreground and background logits.

    The backbone's side outputs are integrated twice, once per branch (`FeatureIntegration`). `ReciprocalAttention`
    exchanges context between the branches, and a `PredictionHead` per branch computes logits, which are upsampled
    bilinearly to the image size. The output is one tensor with both branches, so that a standard Keras loss sees both.
    `to_inference()` returns a model that computes the fused saliency map.

    The defaults are the paper's network. The edge version (ours) of the preset `"recnet_lite0"` is
    `RecNet("efficientnet_lite0", 224, integration_filters=64, key_channels=64, value_channels=64,
    attention_normalize="each", scale_scores=True, head_filters=64, head_stride=4, separable=True,
    normalization="batch", fusion="foreground")`.

    Args:
        backbone: name in `keras_recnet.backbones.BACKBONES`.
        image_size: height and width of the images, an integer or a pair; multiples of the backbone's stride and of 8.
        output_stride: stride of the backbone's `P5`; None: the backbone's default (8 for `resnet50`).
        backbone_weights: `"imagenet"`, the path of a weights file, or None for random values.
        freeze_batch_normalization: use the backbone's stored batch statistics in training too, and do not train scale
            and offset.
        branches: `"both"`, or `"foreground"` for a single branch with one-channel logits (first row of Table 2).
        integration_filters: channels per side output after the integration.
        attention: `"both"`, `"background"`, `"foreground"` (the one-way modules of Table 2) or None.
        key_channels: see `ReciprocalAttention`.
        value_channels: see `ReciprocalAttention`.
        attention_normalize: `"joint"` or `"each"`, see `ReciprocalAttention`.
        scale_scores: see `ReciprocalAttention`.
        head_filters: channels of the heads' 3×3 convolutions.
        head_stride: stride of the heads' output: 8 (the paper), or 4 or 2, with finer side outputs as further inputs of
            the heads (ours).
        separable: depthwise separable 3×3 convolutions outside the backbone (ours).
        normalization: None (the paper) or `"batch"`, batch normalization outside the backbone (ours).
        fusion: default fusion of `to_inference()`: `"subtract"`, `"foreground"`, `"inverse_background"` or `"average"`;
            ignored with a single branch, which gets only a sigmoid.
        name: name of the model.

    Attributes:
        backbone: the backbone, a model with the attribute `strides`.
        side_outputs: dict of the backbone's feature maps, symbolic tensors by name (`"P1"` … `"P5"`).
        coarse_logits: the logits before the last upsampling, a symbolic tensor.
        foreground_features: features of the foreground head at stride 8, a symbolic tensor.
        attention_layer: the `ReciprocalAttention`, or None.

    Input shape:
        `(batch, height, width, 3)`, RGB in 0…255, floating point or uint8.

    Output shape:
        `(batch, height, width, 2)`, logits, float32; channel 0 foreground, channel 1 background. With
        `branches="foreground"`: `(batch, height, width, 1)`.

    Raises:
        ValueError: if an argument is invalid or arguments are incompatible.
        WeightsError: if the backbone's weights cannot be loaded.

    Example:
        >>> model = RecNet("efficientnet_lite0", 224, integration_filters=64, separable=True)
        >>> model.compile("adam", keras_recnet.losses.SaliencyLoss())
        >>> model.fit(images_and_masks)
        >>> saliency_map = model.to_inference().predict(images)

    Reference:
        RecNet paper: Fig. 2, Table 2 (`branches`, `attention`) and Table 3 (`fusion`).
    """

    task = "saliency"

    def __init__(
        self,
        backbone: str = "resnet50",
        image_size: int | tuple[int, int] = 384,
        *,
        output_stride: int | None = None,
        backbone_weights: str | os.PathLike | None = "imagenet",
        freeze_batch_normalization: bool = True,
        branches: str = "both",
        integration_filters: int = 256,
        attention: str | None = "both",
        key_channels: int = 512,
        value_channels: int | None = None,
        attention_normalize: str = "joint",
        scale_scores: bool = False,
        head_filters: int = 128,
        head_stride: int = 8,
        separable: bool = False,
        normalization: str | None = None,
        fusion: str = "subtract",
        name: str = "recnet",
    ):
        if branches not in BRANCHES:
            raise ValueError(f"`branches` must be one of {BRANCHES}. Received: branches={branches!r}")
        if branches == "foreground" and attention is not None:
            raise ValueError(
                f"`attention` needs two branches; pass attention=None. Received: branches={branches!r}, "
                f"attention={attention!r}"
            )
        if head_stride not in HEAD_STRIDES:
            raise ValueError(f"`head_stride` must be one of {HEAD_STRIDES}. Received: head_stride={head_stride!r}")
        if fusion not in FUSIONS:
            raise ValueError(f"`fusion` must be one of {tuple(FUSIONS)}. Received: fusion={fusion!r}")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"`image_size` must be a multiple of {STRIDE}. Received: image_size={image_size!r}")

        # Layers
        options = {} if output_stride is None else {"output_stride": output_stride}
        backbone_model = backbones.build(
            backbone,
            (height, width),
            weights=backbone_weights,
            freeze_batch_normalization=freeze_batch_normalization,
            **options,
        )
        strides = backbone_model.strides
        block = {"separable": separable, "normalization": normalization}
        names = ["foreground", "background"] if branches == "both" else ["foreground"]
        finer = _finer_side_outputs(strides, head_stride)
        attention_layer = None
        if attention is not None:
            attention_layer = ReciprocalAttention(
                key_channels=key_channels,
                value_channels=value_channels,
                normalize=attention_normalize,
                scale_scores=scale_scores,
                direction=attention,
                name="reciprocal_attention",
            )

        # Functional model
        image = keras.Input((height, width, 3), name="image")
        side_outputs = backbone_model(image)
        features = [
            FeatureIntegration(
                strides, filters=integration_filters, stride=STRIDE, **block, name=f"{branch}_integration"
            )(side_outputs)
            for branch in names
        ]
        if attention_layer is not None:
            features = attention_layer(features)
        outputs = [
            PredictionHead(head_filters, finer=len(finer), **block, name=f"{branch}_head")(
                [feature, *(side_outputs[key] for key in finer)], return_features=True
            )
            for branch, feature in zip(names, features, strict=True)
        ]
        logits = [output for output, _ in outputs]
        joined = layers.Concatenate(name="branches")(logits) if len(logits) > 1 else logits[0]
        upsampling = layers.UpSampling2D(head_stride, interpolation="bilinear", name="logits", dtype="float32")
        super().__init__(inputs=image, outputs=upsampling(joined), name=name)

        self.backbone = backbone_model
        self.side_outputs = side_outputs
        self.coarse_logits = joined
        self._branch_logits = dict(zip(names, logits, strict=True))
        self.foreground_features = outputs[0][1]
        self.attention_layer = attention_layer

        # Configuration
        self.backbone_name = backbone
        self.image_size = (height, width)
        self.output_stride = output_stride
        self.freeze_batch_normalization = freeze_batch_normalization
        self.branches = branches
        self.integration_filters = integration_filters
        self.attention = attention
        self.key_channels = key_channels
        self.value_channels = value_channels
        self.attention_normalize = attention_normalize
        self.scale_scores = scale_scores
        self.head_filters = head_filters
        self.head_stride = head_stride
        self.separable = separable
        self.normalization = normalization
        self.fusion = fusion if branches == "both" else "foreground"

    def to_inference(self, fusion: str | None = None) -> keras.Model:
        """Return a functional model that has the same weights and maps an image to a saliency map.

        Args:
            fusion: see the constructor; None: the constructor's value.

        Returns:
            A model with output `(batch, height, width, 1)`, float32, in 0…1.

        Raises:
            ValueError: if the fusion is unknown, or the model lacks the background branch that the fusion needs.
        """
        fusion = fusion or self.fusion
        upsampling = layers.UpSampling2D(self.head_stride, interpolation="bilinear", name="logits", dtype="float32")
        logits = upsampling(self.logits_of(fusion))
        saliency = Fusion(fusion, name="saliency", dtype="float32")(logits)
        return keras.Model(self.input, saliency, name=f"{self.name}_inference")

    def logits_of(self, fusion: str):
        """Return the logits that a fusion needs, before the last upsampling: a symbolic tensor with 1 or 2 channels.

        Raises:
            ValueError: as for `to_inference`.
        """
        if self.branches != "both" and fusion != "foreground":
            raise ValueError(
                f"`fusion` must be 'foreground' for a model with only this branch. Received: fusion={fusion!r}"
            )
        return self._branch_logits[SINGLE[fusion]] if fusion in SINGLE else self.coarse_logits

    def attention_map(self, image, pixel: tuple[int, int], direction: str = "foreground") -> np.ndarray:
        """Compute the attention weights of one pixel over all positions of the other branch.

        Args:
            image: `(height, width, 3)`, RGB in 0…255, of the model's `image_size`.
            pixel: row and column in the image.
            direction: `"foreground"`: weights of the background positions for a pixel of the foreground branch (Eq. 3);
                `"background"`: the reverse (Eq. 2).

        Returns:
            `(height / 8, width / 8)`, float32, weights ≥ 0. They sum to 1, except for `"background"` with
            `attention_normalize="joint"`.

        Raises:
            ValueError: if the model has no attention in this direction, or if `image` or `pixel` is invalid.
        """
        height, width = self.image_size
        image = np.asarray(image)
        if image.shape != (height, width, 3):
            raise ValueError(f"`image` must have the shape {(height, width, 3)}. Received: image.shape={image.shape}")
        row, column = pixel
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"`pixel` must be inside the image of {height} rows and {width} columns. Received: pixel={pixel!r}"
            )
        if self.attention_layer is None:
            raise ValueError("This model has no attention. Received: attention=None")
        features = keras.Model(self.input, self.attention_layer.input)(image[None].astype("float32"), training=False)
        weights = self.attention_layer.attention_weights(features)
        if direction not in weights:
            raise ValueError(f"`direction` must be one of {tuple(weights)}. Received: direction={direction!r}")
        position = row // STRIDE * (width // STRIDE) + column // STRIDE
        of_pixel = keras.ops.convert_to_numpy(weights[direction][0, position])
        return of_pixel.reshape(height // STRIDE, width // STRIDE)

    def save_to_preset(self, folder: str | os.PathLike, **entries) -> None:
        super().save_to_preset(folder, fusion=self.fusion, **entries)

    def get_config(self):
        return {
            "backbone": self.backbone_name,
            "image_size": list(self.image_size),
            "output_stride": self.output_stride,
            "backbone_weights": None,  # part of the model's own weights
            "freeze_batch_normalization": self.freeze_batch_normalization,
            "branches": self.branches,
            "integration_filters": self.integration_filters,
            "attention": self.attention,
            "key_channels": self.key_channels,
            "value_channels": self.value_channels,
            "attention_normalize": self.attention_normalize,
            "scale_scores": self.scale_scores,
            "head_filters": self.head_filters,
            "head_stride": self.head_stride,
            "separable": self.separable,
            "normalization": self.normalization,
            "fusion": self.fusion,
            "name": self.name,
        }


def _finer_side_outputs(strides, head_stride):
    """Names of the deepest side output at each of the strides 4 … `head_stride`, from coarse to fine."""
    names, stride = [], STRIDE // 2
    while stride >= head_stride:
        at_stride = sorted(name for name, value in strides.items() if value == stride)
        names.append(at_stride[-1])
        stride //= 2
    return names
