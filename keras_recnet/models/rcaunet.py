"""RCAUNet: co-saliency detection in a group of images with a recurrent co-attention unit."""

import os
import typing
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from keras_recnet.layers import FrozenStatistics, GroupClassifier, MergeGroups, SplitGroups
from keras_recnet.models import _rcaunet_edge as edge
from keras_recnet.models import _rcaunet_parts as paper
from keras_recnet.models._group_model import GroupModel
from keras_recnet.models.preset_model import PresetModel
from keras_recnet.models.recnet import RecNet

OWN_ARGUMENTS = ("backbone", "image_size", "backbone_weights", "name")  # of `RecNet`, which are arguments of `RCAUNet`
UNIT_DEFAULTS = {
    "recurrent_unit": "rcau",
    "use_reset_gate": True,
    "use_spatial_attention": True,
    "use_channel_attention": True,
    "use_bias": False,
    "spatial_reduction": 1,
    "update_bias": None,
}


@keras.saving.register_keras_serializable(package="keras_recnet")
class RCAUNet(PresetModel, GroupModel):
    """The RCAU network, a functional model from a group of images to co-saliency logits of every image.

    A backbone computes features X_n of each image at stride 16. Three convolutions turn X_n into the single-image
    representation S_n. A recurrent unit processes the X_n of a group one after another, and its final state is the
    group representation G. A decoder computes the logits of each image from `[S_n, G]`.

    The defaults are the paper's network: VGG-16 at 224×224, X = `block5_conv3`, and a decoder of convolutions and
    transposed convolutions with bilinear initialization. Kernel sizes, decoder widths and the choice of X are ours; the
    paper does not state them.

    The edge version (ours) is built around a `RecNet`: `RCAUNet.from_recnet("recnet_lite0")`. It has no recurrent unit.
    RecNet's features at stride 16 give an embedding of every position. The consensus of the group is the mean, and the
    second moments, of the embedding over the salient positions of all images. A decoder compares the embedding with the
    consensus of the *other* images, and corrects RecNet's map at every pixel: it suppresses objects that the group does
    not share, and strengthens those that it does. The initial map, and the map of a group of one image, are RecNet's.

    The pretrained part always uses its stored batch statistics, in training too, because the images of a group are not
    a representative sample.

    Args:
        backbone: name in `keras_recnet.backbones.BACKBONES`, with side outputs at stride 16 or coarser.
        image_size: height and width of the images, an integer or a pair; multiples of the backbone's stride. The
            weights of a recurrent unit with spatial attention (`"rcau"`) fit only one image size, because it has a
            dense layer over positions.
        backbone_weights: `"imagenet"`, the path of a weights file, or None for random values.
        recnet: None (the paper), or constructor arguments of the `RecNet` inside the network (edge version).
        recurrent_unit: `"rcau"`; `"gru"`, a convolutional GRU with 1×1 kernels (Table 2; the kernel size is ours);
            `"mean"`, the mean over the group (ours); None: no group branch, the paper's baseline. The edge version has
            no recurrent unit.
        use_reset_gate: see `RCAUCell`.
        use_spatial_attention: see `RCAUCell`.
        use_channel_attention: see `RCAUCell`.
        use_bias: see `RCAUCell`.
        spatial_reduction: see `RCAUCell`.
        update_bias: see `RCAUCell`.
        channels: C, the channels of X after a 1×1 convolution with ReLU; None: X consists of the side outputs (paper),
            or has 128 channels (edge version).
        embedding_channels: channels of the embedding (edge version).
        decoder_filters: channels of the decoder's convolutions. One number per upsampling step, by default
            (256, 128, 64, 32); edge version: two numbers, for stride 16 and 8, by default (128, 64).
        freeze_pretrained: freeze the pretrained part, the backbone or the RecNet, and compute no gradients in it.
        name: name of the model.

    Input shape:
        A dict: `"images"`, `(batch, images, height, width, 3)`, RGB in 0…255, any number of images; `"mask"`,
        `(batch, images)`, boolean, False for padding.

    Output shape:
        `(batch, images, height, width, 1)`, logits, float32. The logits of padding are undefined.

    Raises:
        ValueError: if an argument is invalid or arguments are incompatible.
        WeightsError: if the backbone's weights cannot be loaded.

    Example:
        >>> model = RCAUNet.from_recnet("recnet_lite0")
        >>> model.compile("adam", keras_recnet.losses.CoSaliencyLoss(dice_weight=0.5))
        >>> model.fit(groups)  # yields ({"images": …, "mask": …}, masks)
        >>> model.save_to_preset("my_preset")

    Reference:
        RCAU paper: Fig. 1, Eq. 1–3 and 11, Table 2 (`recurrent_unit`, `use_…`).
    """

    task = "cosaliency"

    def __init__(
        self,
        backbone: str = "vgg16",
        image_size: int | tuple[int, int] = 224,
        *,
        backbone_weights: str | os.PathLike | None = "imagenet",
        recnet: dict | None = None,
        recurrent_unit: str | None = "rcau",
        use_reset_gate: bool = True,
        use_spatial_attention: bool = True,
        use_channel_attention: bool = True,
        use_bias: bool = False,
        spatial_reduction: int = 1,
        update_bias: float | None = None,
        channels: int | None = None,
        embedding_channels: int = 64,
        decoder_filters: Sequence[int] | None = None,
        freeze_pretrained: bool = False,
        name: str = "rcaunet",
    ):
        if recurrent_unit not in paper.RECURRENT_UNITS:
            raise ValueError(
                f"`recurrent_unit` must be one of {paper.RECURRENT_UNITS}. Received: recurrent_unit={recurrent_unit!r}"
            )
        default = paper.TRANSPOSED_FILTERS if recnet is None else edge.DECODER_FILTERS
        decoder_filters = default if decoder_filters is None else tuple(decoder_filters)
        if len(decoder_filters) != len(default):
            raise ValueError(
                f"`decoder_filters` must be {len(default)} numbers {'without' if recnet is None else 'with'} `recnet`. "
                f"Received: decoder_filters={decoder_filters!r}"
            )
        unit = {
            "recurrent_unit": recurrent_unit,
            "use_reset_gate": use_reset_gate,
            "use_spatial_attention": use_spatial_attention,
            "use_channel_attention": use_channel_attention,
            "use_bias": use_bias,
            "spatial_reduction": spatial_reduction,
            "update_bias": update_bias,
        }
        if recnet is not None and unit != UNIT_DEFAULTS:
            changed = ", ".join(f"{key}={value!r}" for key, value in unit.items() if value != UNIT_DEFAULTS[key])
            raise ValueError(f"`recnet` builds a network without a recurrent unit. Received: {changed}")
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if recnet is None:
            parts = paper.paper_parts(
                backbone,
                size,
                backbone_weights,
                recurrent_unit=unit.pop("recurrent_unit"),
                rcau_options=unit,
                channels=channels,
                decoder_filters=decoder_filters,
            )
        else:
            recnet = {key: value for key, value in recnet.items() if key not in OWN_ARGUMENTS}
            parts = edge.edge_parts(
                RecNet(backbone, size, backbone_weights=backbone_weights, **recnet),
                channels=channels or edge.CHANNELS,
                embedding_channels=embedding_channels,
                decoder_filters=decoder_filters,
            )

        # Functional model
        frozen = FrozenStatistics(parts.pretrained, freeze=freeze_pretrained, name="pretrained")
        image = keras.Input((*size, 3), name="image")
        encoder = keras.Model(image, parts.projection(frozen(image)), name="encoder")
        images, mask = keras.Input((None, *size, 3), name="images"), keras.Input((None,), dtype="bool", name="mask")
        logits = parts.logits(encoder(MergeGroups(name="merged_images")(images)), mask)
        super().__init__(inputs={"images": images, "mask": mask}, outputs=logits, name=name)
        _disable_xla(parts.pretrained, encoder, parts.step, parts.decoder)

        # Stored as a function, because Keras would track and save the models in it a second time.
        self._parts = lambda: parts

        # Configuration
        self.backbone_name = backbone
        self.image_size = size
        self.recnet = recnet
        self.recurrent_unit = recurrent_unit
        self.use_reset_gate = use_reset_gate
        self.use_spatial_attention = use_spatial_attention
        self.use_channel_attention = use_channel_attention
        self.use_bias = use_bias
        self.spatial_reduction = spatial_reduction
        self.update_bias = update_bias
        self.channels = channels
        self.embedding_channels = embedding_channels
        self.decoder_filters = decoder_filters
        self.freeze_pretrained = freeze_pretrained

    @property
    def encoder(self) -> keras.Model:
        """Functional model from images `(batch, height, width, 3)` to a dict of features."""
        return self.get_layer("encoder")

    @property
    def step(self) -> keras.Model | None:
        """Functional model from features of an image and the group's state to the next state, all in one dict.

        Before the first image, all tensors of the state are 0. None without a group branch.
        """
        return self._parts().step

    @property
    def decoder(self) -> keras.Model:
        """Functional model from features of an image and the group's state to logits `(batch, height, width, 1)`."""
        return self._parts().decoder

    @property
    def pretrained(self) -> keras.Model:
        """The pretrained part: a functional model from images to a dict of features."""
        return self._parts().pretrained

    @property
    def backbone(self) -> keras.Model:
        """The backbone inside the pretrained part."""
        return self._parts().backbone

    @property
    def embedding(self) -> keras.Model:
        """The embedding of the edge version: a functional model from outputs of `pretrained` to unit vectors."""
        projection = self._parts().projection
        inputs = {name: tensor for name, tensor in projection.input.items() if name != "branches"}
        return keras.Model(inputs, projection.output["embedding"], name="embedding")

    def from_features(self, groups: int | None = None, classification_weight: float = 0.1) -> keras.Model:
        """Return the model without its pretrained part, for training on precomputed features.

        Args:
            groups: with this number of groups, the edge version also learns to classify the objects of its images by
                their groups, see `GroupClassifier`. The inputs `"objects"` and `"group"` of
                `SaliencyGroups(group_numbers=True)` are then necessary.
            classification_weight: weight of this loss.

        Returns:
            A functional model that shares this model's weights. Input: a dict of the outputs of `pretrained`, each with
            leading dimensions `(batch, images)`, and `"mask"`. Output: this model's logits; those of the edge version
            have half of the resolution, which makes training faster.

        Example:
            >>> features = model.pretrained.predict(images)  # once, for all images
            >>> train_model = model.from_features()
            >>> train_model.compile("adam", CoSaliencyLoss())
            >>> train_model.fit(groups_of_features)  # trains the weights of `model`
        """
        parts = self._parts()
        inputs = {
            name: keras.Input((None, *tensor.shape[1:]), name=name) for name, tensor in parts.pretrained.output.items()
        }
        mask = keras.Input((None,), dtype="bool", name="mask")
        merged = {name: MergeGroups(name=f"merged_{name}")(tensor) for name, tensor in inputs.items()}
        features = parts.projection(merged)
        logits = parts.logits(features, mask, decoder=parts.feature_decoder)
        inputs["mask"] = mask
        if groups is not None:
            if self.recnet is None:
                raise ValueError(f"Only the edge version has an embedding to classify. Received: groups={groups!r}")
            embedding = SplitGroups(dtype="float32", name="split_embedding")([features["embedding"], mask])
            inputs["objects"] = keras.Input(logits.shape[1:], name="objects")
            inputs["group"] = keras.Input((), dtype="int32", name="group")
            classifier = GroupClassifier(groups, classification_weight, name="classifier")
            logits = classifier([logits, embedding, inputs["objects"], inputs["group"]])
        return GroupModel(inputs, logits, name=f"{self.name}_from_features")

    def to_inference(self) -> keras.Model:
        """Return a functional model with the same weights and inputs that computes maps instead of logits.

        Returns:
            A model with output `(batch, images, height, width, 1)`, float32, in 0…1.
        """
        saliency = layers.Activation("sigmoid", name="saliency", dtype="float32")(self.outputs[0])
        return keras.Model(self.input, saliency, name=f"{self.name}_inference")

    @classmethod
    def from_recnet(
        cls, recnet: RecNet | str | os.PathLike, image_size: int | tuple[int, int] | None = None, **arguments
    ) -> "RCAUNet":
        """Build the edge version around a RecNet and copy its weights.

        Args:
            recnet: a `RecNet`, or the name or folder of its preset.
            image_size: height and width; None: RecNet's.
            **arguments: constructor arguments; `freeze_pretrained` is True by default.

        Raises:
            PresetError: if the preset does not exist.
            ValueError: if the RecNet has only one branch.
        """
        if not isinstance(recnet, RecNet):
            recnet = RecNet.from_preset(recnet)
        model = cls(
            recnet.backbone_name,
            recnet.image_size if image_size is None else image_size,
            backbone_weights=None,
            recnet=recnet.get_config(),
            **{"freeze_pretrained": True, **arguments},
        )
        model.init_from_recnet(recnet)
        return model

    @classmethod
    def argument_types(cls) -> type:
        types = typing.get_type_hints(cls.__init__)
        return typing.TypedDict("Arguments", {**types, "recnet": RecNet.argument_types() | None}, total=False)

    def init_from_recnet(self, recnet: RecNet) -> None:
        """Copy the weights of a RecNet; this model must contain a RecNet with the same arguments.

        Raises:
            ValueError: if the RecNet lacks a weight or a weight has a different shape.
        """
        if self.recnet is None:
            raise ValueError(
                "This model contains no RecNet: build it with `RCAUNet.from_recnet`. Received: recnet=None"
            )
        source = {weight.path: weight for weight in recnet.weights}
        for weight in self.pretrained.weights:
            if weight.path not in source or source[weight.path].shape != weight.shape:
                received = tuple(source[weight.path].shape) if weight.path in source else "no such weight"
                raise ValueError(
                    f"The RecNet does not fit: expected {weight.path!r} of shape {tuple(weight.shape)}. Received: "
                    f"{received} in {recnet.name!r}"
                )
        for weight in self.pretrained.weights:
            # a copy: on JAX, both models would otherwise share a buffer, which training one of them donates
            weight.assign(np.array(keras.ops.convert_to_numpy(source[weight.path])))

    def get_config(self):
        return {
            "backbone": self.backbone_name,
            "image_size": list(self.image_size),
            "backbone_weights": None,  # part of the model's own weights
            "recnet": None if self.recnet is None else dict(self.recnet),
            "recurrent_unit": self.recurrent_unit,
            "use_reset_gate": self.use_reset_gate,
            "use_spatial_attention": self.use_spatial_attention,
            "use_channel_attention": self.use_channel_attention,
            "use_bias": self.use_bias,
            "spatial_reduction": self.spatial_reduction,
            "update_bias": self.update_bias,
            "channels": self.channels,
            "embedding_channels": self.embedding_channels,
            "decoder_filters": list(self.decoder_filters),
            "freeze_pretrained": self.freeze_pretrained,
            "name": self.name,
        }


def _disable_xla(*models):
    """Disable XLA for `predict`: on a CPU, compilation takes longer than it saves."""
    for model in models:
        if model is not None and keras.backend.backend() == "tensorflow":
            model.jit_compile = False
