"""RCAUNet: co-saliency detection in a group of images with a recurrent co-attention unit."""

import os
import typing
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from keras_recnet.layers import BroadcastGroups, FrozenStatistics, GroupRNN, MergeGroups, SplitGroups
from keras_recnet.models import _rcaunet_parts as parts
from keras_recnet.models._group_model import GroupModel
from keras_recnet.models.preset_model import PresetModel
from keras_recnet.models.recnet import RecNet

TRANSPOSED_FILTERS = (256, 128, 64, 32)
JOINED_FILTERS = (128, 64)
# arguments of the edge version, see `from_recnet`
EDGE = {
    "channels": 192,
    "separable": True,
    "spatial_reduction": 2,
    "update_bias": 1.5,
    "freeze_pretrained": True,
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

    The edge version (ours) contains the foreground path of a `RecNet`: build it with
    `RCAUNet.from_recnet("recnet_lite0")`. X is a 1×1 convolution of all side outputs at stride 16 and coarser. The
    decoder runs at stride 16, merges RecNet's integrated foreground features at stride 8, and adds its output to these
    features; RecNet's own head computes the logits from the sum and from finer side outputs. The decoder's last
    convolution is initialized to zero, so the initial map equals the map of RecNet's foreground branch.

    The pretrained part always uses its stored batch statistics, in training too, because the images of a group are not
    a representative sample.

    Args:
        backbone: name in `keras_recnet.backbones.BACKBONES`, with side outputs at stride 16 or coarser.
        image_size: height and width of the images, an integer or a pair; multiples of the backbone's stride. The
            weights depend on the image size, because the recurrent unit has a dense layer over positions.
        backbone_weights: `"imagenet"`, the path of a weights file, or None for random values.
        recnet: None (the paper), or constructor arguments of the `RecNet` inside the network (edge version).
        recurrent_unit: `"rcau"`; `"gru"`, a convolutional GRU with 1×1 kernels (Table 2; the kernel size is ours);
            `"mean"`, the mean over the group (ours); None: no group branch, the paper's baseline.
        use_reset_gate: see `RCAUCell`.
        use_spatial_attention: see `RCAUCell`.
        use_channel_attention: see `RCAUCell`.
        use_bias: see `RCAUCell`.
        spatial_reduction: see `RCAUCell`.
        update_bias: see `RCAUCell`.
        channels: C, the channels of X after a 1×1 convolution with ReLU; None: X consists of the side outputs.
        group_gate: multiply the map by the probability that the image belongs to its group, computed from the cosine of
            its `SalientDescriptor` and the group's mean descriptor (`GroupGate`; ours, requires `recnet`). A copy of
            RecNet's head in the pretrained part predicts what is salient. The descriptor is stored in additional
            channels of X and averaged in additional channels of the state, so the gate does not depend on the order of
            the images. Call `adapt` before training.
        decoder_filters: channels of the decoder's convolutions: one number per upsampling step, by default
            (256, 128, 64, 32). With `recnet`: two numbers, for stride 16 and 8, by default (128, 64).
        separable: depthwise separable 3×3 convolutions in the new part (ours).
        freeze_pretrained: freeze the backbone and RecNet's integration and attention, and compute no gradients in them.
            RecNet's head is always trained.
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
        group_gate: bool = False,
        decoder_filters: Sequence[int] | None = None,
        separable: bool = False,
        freeze_pretrained: bool = False,
        name: str = "rcaunet",
    ):
        if recurrent_unit not in parts.RECURRENT_UNITS:
            raise ValueError(
                f"`recurrent_unit` must be one of {parts.RECURRENT_UNITS}. Received: recurrent_unit={recurrent_unit!r}"
            )
        default = TRANSPOSED_FILTERS if recnet is None else JOINED_FILTERS
        decoder_filters = default if decoder_filters is None else tuple(decoder_filters)
        if len(decoder_filters) != len(default):
            raise ValueError(
                f"`decoder_filters` must be {len(default)} numbers {'without' if recnet is None else 'with'} `recnet`. "
                f"Received: decoder_filters={decoder_filters!r}"
            )
        if group_gate and (recnet is None or recurrent_unit is None):
            raise ValueError(
                f"`group_gate` needs `recnet` and a recurrent unit. Received: group_gate={group_gate!r}, "
                f"recnet={recnet!r}, recurrent_unit={recurrent_unit!r}"
            )
        height, width = size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        rcau_options = {
            "use_reset_gate": use_reset_gate,
            "use_spatial_attention": use_spatial_attention,
            "use_channel_attention": use_channel_attention,
            "use_bias": use_bias,
            "spatial_reduction": spatial_reduction,
            "update_bias": update_bias,
        }

        # Layers
        if recnet is None:
            pretrained = parts.pretrained_backbone(backbone, size, backbone_weights)
        else:
            pretrained = parts.pretrained_recnet(backbone, size, backbone_weights, recnet, with_map=group_gate)
        frozen = FrozenStatistics(pretrained.features, freeze=freeze_pretrained, name="pretrained")
        projection, descriptor_channels = parts.projection(pretrained, channels, descriptor=group_gate)
        cell = parts.build_cell(recurrent_unit, rcau_options, descriptor_channels)
        image = keras.Input((height, width, 3), name="image")
        features = frozen(image)
        x = projection({name: features[name] for name in projection.input})
        decoder_features = {"x": x, **{name: features[name] for name in pretrained.head_inputs}}
        encoder = keras.Model(image, decoder_features, name="encoder")
        shapes = {name: tensor.shape[1:] for name, tensor in encoder.output.items()}
        if cell is not None:
            cell.build(x.shape)
            shapes["state"] = cell.state_size[0]
        decoder = parts.decoder(
            shapes,
            cell,
            pretrained,
            filters=decoder_filters,
            image_size=size,
            separable=separable,
            descriptor_channels=descriptor_channels,
        )
        rnn = None if cell is None else GroupRNN(cell, return_state=True, name="group")
        step = None if cell is None else parts.step_model(cell, x.shape[1:])
        parts.disable_xla(*(part for part in (pretrained.features, encoder, step, decoder) if part is not None))

        # Functional model
        images = keras.Input((None, height, width, 3), name="images")
        mask = keras.Input((None,), dtype="bool", name="mask")
        logits = _group_logits(encoder(MergeGroups(name="merged_images")(images)), mask, rnn, decoder)
        super().__init__(inputs={"images": images, "mask": mask}, outputs=logits, name=name)

        # Stored as functions, because Keras would track and save the models a second time.
        self._step = lambda: step
        self._backbone = lambda: pretrained.backbone
        self.descriptor_inputs = (parts.coarsest(pretrained.strides), parts.SALIENT) if group_gate else ()

        # Configuration
        self.backbone_name = backbone
        self.image_size = size
        self.recnet = None if recnet is None else parts.foreground_arguments(recnet)
        self.recurrent_unit = recurrent_unit
        self.use_reset_gate = use_reset_gate
        self.use_spatial_attention = use_spatial_attention
        self.use_channel_attention = use_channel_attention
        self.use_bias = use_bias
        self.spatial_reduction = spatial_reduction
        self.update_bias = update_bias
        self.channels = channels
        self.group_gate = group_gate
        self.decoder_filters = decoder_filters
        self.separable = separable
        self.freeze_pretrained = freeze_pretrained

    @property
    def encoder(self) -> keras.Model:
        """Functional model from images `(batch, height, width, 3)` to a dict of features: `"x"` and head inputs."""
        return self.get_layer("encoder")

    @property
    def decoder(self) -> keras.Model:
        """Functional model from a dict of image features and `"state"` to logits `(batch, height, width, 1)`."""
        return self.get_layer("decoder")

    @property
    def cell(self) -> keras.layers.Layer | None:
        """The recurrent cell, or None without a group branch. `cell.start(x)` is the state before the first image."""
        return None if self.recurrent_unit is None else self.get_layer("group").cell

    @property
    def step(self) -> keras.Model | None:
        """Functional model from a dict of `"x"` and `"state"` to the next state, or None without a group branch."""
        return self._step()

    @property
    def pretrained(self) -> keras.Model:
        """The pretrained part: a functional model from images to a dict of features."""
        return self.encoder.get_layer("pretrained").layer

    @property
    def backbone(self) -> keras.Model:
        """The backbone inside the pretrained part."""
        return self._backbone()

    def from_features(self) -> keras.Model:
        """Return the model without its pretrained part, for training on precomputed features.

        Returns:
            A functional model that shares this model's weights. Input: a dict of the outputs of `pretrained`, each with
            leading dimensions `(batch, images)`, and `"mask"`. Output: the same logits as this model's.

        Example:
            >>> features = model.pretrained.predict(images)  # once, for all images
            >>> train_model = model.from_features()
            >>> train_model.compile("adam", CoSaliencyLoss())
            >>> train_model.fit(groups_of_features)  # trains the weights of `model`
        """
        inputs = {
            name: keras.Input((None, *tensor.shape[1:]), name=name) for name, tensor in self.pretrained.output.items()
        }
        mask = keras.Input((None,), dtype="bool", name="mask")
        merged = {name: MergeGroups(name=f"merged_{name}")(tensor) for name, tensor in inputs.items()}
        projection = self.encoder.get_layer("projection")
        features = {name: merged[name] for name in self.encoder.output if name != "x"}
        features = {"x": projection({name: merged[name] for name in projection.input}), **features}
        rnn = None if self.cell is None else self.get_layer("group")
        logits = _group_logits(features, mask, rnn, self.decoder)
        return GroupModel({**inputs, "mask": mask}, logits, name=f"{self.name}_from_features")

    def adapt(self, features) -> None:
        """Fit the whitening of the group gate to features of many images, see `SalientDescriptor.adapt`.

        Call it before training; `keras-recnet train` does so automatically.

        Args:
            features: iterable of outputs of `pretrained`, each a dict of arrays for a batch of images; a few thousand
                images in total. Only the entries named by `descriptor_inputs` are used.

        Raises:
            ValueError: if the model has no gate, an element of `features` lacks these entries, or there are fewer than
                two images.

        Example:
            >>> model = RCAUNet.from_recnet("recnet_lite0", group_gate=True)
            >>> model.adapt([model.pretrained.predict(images)])  # (images, height, width, 3) in 0…255
        """
        if not self.group_gate:
            raise ValueError("This model has no gate to adapt. Received: group_gate=False")
        layer = self.encoder.get_layer("projection").get_layer(parts.DESCRIPTOR)
        vectors = []
        for batch in features:
            if not isinstance(batch, dict) or not set(self.descriptor_inputs) <= set(batch):
                raise ValueError(
                    f"`features` must be dicts with {self.descriptor_inputs}, such as "
                    f"`[model.pretrained.predict(images)]`. Received: an element of type {type(batch).__name__}"
                )
            inputs = (keras.ops.cast(batch[name], "float32") for name in self.descriptor_inputs)
            vectors.append(keras.ops.convert_to_numpy(layer.describe(*inputs)))
        layer.adapt(np.concatenate(vectors) if vectors else np.zeros((0, layer.mean.shape[0])))

    def to_inference(self) -> keras.Model:
        """Return a functional model with the same weights and inputs that computes maps instead of logits.

        Returns:
            A model with output `(batch, images, height, width, 1)`, float32, in 0…1.
        """
        saliency = layers.Activation("sigmoid", name="saliency", dtype="float32")(self.outputs[0])
        return keras.Model(self.input, saliency, name=f"{self.name}_inference")

    @classmethod
    def from_recnet(
        cls, recnet: RecNet | str | os.PathLike, image_size: int | tuple[int, int] = 224, **arguments
    ) -> "RCAUNet":
        """Build the edge version around a RecNet's foreground path and copy its weights.

        Args:
            recnet: a `RecNet`, or the name or folder of its preset.
            image_size: height and width; may differ from RecNet's.
            **arguments: constructor arguments. Defaults of the edge version: `channels=192, separable=True,
                spatial_reduction=2, update_bias=1.5, freeze_pretrained=True`.

        Raises:
            PresetError: if the preset does not exist.
        """
        if not isinstance(recnet, RecNet):
            recnet = RecNet.from_preset(recnet)
        model = cls(
            recnet.backbone_name,
            image_size,
            backbone_weights=None,
            recnet=recnet.get_config(),
            **{**EDGE, **arguments},
        )
        model.init_from_recnet(recnet)
        return model

    @classmethod
    def argument_types(cls) -> type:
        types = typing.get_type_hints(cls.__init__)
        return typing.TypedDict("Arguments", {**types, "recnet": RecNet.argument_types() | None}, total=False)

    def init_from_recnet(self, recnet: RecNet) -> None:
        """Copy the weights of a RecNet's foreground path; this model must contain a RecNet with the same arguments.

        Raises:
            ValueError: if the RecNet lacks a weight or a weight has a different shape.
        """
        if self.recnet is None:
            raise ValueError(
                "This model contains no RecNet: build it with `RCAUNet.from_recnet`. Received: recnet=None"
            )
        source = {weight.path: weight for weight in recnet.weights}
        targets = [*self.pretrained.weights, *self.decoder.get_layer("head").weights]
        paths = [weight.path.replace(parts.COPIED_HEAD, parts.HEAD) for weight in targets]
        for weight, path in zip(targets, paths, strict=True):
            if path not in source or source[path].shape != weight.shape:
                raise ValueError(
                    f"The RecNet does not fit: expected {path!r} of shape {tuple(weight.shape)}. Received: "
                    f"{tuple(source[path].shape) if path in source else 'no such weight'} in {recnet.name!r}"
                )
        for weight, path in zip(targets, paths, strict=True):
            # a copy: on JAX, both models would otherwise share a buffer, which training one of them donates
            weight.assign(np.array(keras.ops.convert_to_numpy(source[path])))

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
            "group_gate": self.group_gate,
            "decoder_filters": list(self.decoder_filters),
            "separable": self.separable,
            "freeze_pretrained": self.freeze_pretrained,
            "name": self.name,
        }


def _group_logits(features, mask, rnn, decoder):
    """Logits `(batch, images, height, width, 1)` from the features of all images, `(batch · images, …)`."""
    inputs = dict(features)
    if rnn is not None:
        x = SplitGroups(name="split_x")([features["x"], mask])
        _, state = rnn(x, mask=mask)
        inputs["state"] = BroadcastGroups(dtype=rnn.dtype_policy.name, name="broadcast_state")([state, mask])
    return SplitGroups(name="logits", dtype="float32")([decoder(inputs), mask])
