"""RCAUNet: co-saliency detection in a group of images by a recurrent co-attention unit."""

import keras
import numpy as np
from keras import layers

from keras_recnet.layers import BroadcastGroups, GroupRNN, MergeGroups, Pretrained, SplitGroups
from keras_recnet.models import _rcaunet_parts as parts
from keras_recnet.models._group_model import GroupModel
from keras_recnet.models.preset_model import PresetModel
from keras_recnet.models.recnet import RecNet

TRANSPOSED_FILTERS = (256, 128, 64, 32)
JOINED_FILTERS = (128, 64)
# the edge version, beside the RecNet that it starts from
EDGE = {
    "channels": 192,
    "separable": True,
    "spatial_reduction": 2,
    "update_bias": 1.5,
    "freeze_pretrained": True,
}


@keras.saving.register_keras_serializable(package="keras_recnet")
class RCAUNet(PresetModel, GroupModel):
    """The RCAU network, a functional model from a group of images to the logits of what is salient in all of them.

    A backbone gives each image's features X_n, 1/16 of its size. Three convolutions make the single-image
    representation S_n of X_n; a recurrent unit walks over the X of the group and ends in the group representation G.
    Each image's decoder sees `[S_n, G]`.

    The defaults are the paper: VGG-16 at 224×224, X = `block5_conv3`, and a decoder of convolutions and transposed
    convolutions with a bilinear start. Kernel sizes, widths of the decoder and the layer of X are ours, the paper does
    not give them.

    The edge version (ours) contains the foreground path of a `RecNet` and starts as it: make it with
    `RCAUNet.from_recnet("recnet_lite0")`. X is a 1×1 convolution of all side-outputs at 1/16 and coarser. The decoder
    works at 1/16, joins RecNet's integrated foreground features at 1/8, and adds what it finds to them; RecNet's own
    head, with its finer side-outputs, makes the map of the sum. The last convolution of the decoder starts at zero, so
    the first map is that of RecNet's foreground branch, and training adds what the group says.

    Everything pretrained runs with its stored batch statistics, in training too: images of one group are no sample of
    all images.

    Args:
        backbone: name in `keras_recnet.backbones.BACKBONES`, with side-outputs at 1/16 of the image or coarser.
        image_size: height and width of the images, one number or two; multiples of the backbone's stride. The unit's
            dense layer over positions ties the weights to it.
        backbone_weights: `"imagenet"`, the path of a weights file, or None for random values.
        recnet: None (the paper), or the arguments of the `RecNet` whose foreground path is inside (edge version).
        recurrent_unit: `"rcau"`; `"gru"`, a convolutional GRU with 1×1 kernels (Table 2; the kernels are ours);
            `"mean"`, the mean over the group (ours); None: no group branch, the paper's baseline.
        use_reset_gate: see `RCAUCell`, as the next five.
        use_spatial_attention: the update gate has a spatial map.
        use_channel_attention: the update gate has a channel map.
        use_bias: the gates have biases.
        spatial_reduction: how much narrower the spatial map's hidden layer is.
        update_bias: None, or the start of the update gate's bias.
        channels: C, channels of X by a 1×1 convolution with ReLU; None: X is the backbone's side-outputs themselves.
        foreground_gate: X is weighted by a map of what is salient in its image, one sigmoid of RecNet's integrated
            foreground features averaged to 1/16, so that the group is made of objects and not of what is around them
            (ours, with `recnet` only).
        group_attention: the decoder also sees S_n with its channels weighted by how the image compares with its group,
            `S_n ⊙ sigmoid(W_2 ReLU(W_1 (V x̄_n ⊙ V ḡ)))` with x̄_n and ḡ, the means of X_n and G over the positions,
            each layer-normalised, and biases. So an object is known as the group's wherever it is and however large
            (ours; the product of two embeddings is that of Kim et al., Hadamard Product for Low-rank Bilinear Pooling,
            ICLR 2017).
        group_dropout: share of x̄_n and ḡ that a training step leaves out; without it the comparison learns the
            training groups by heart.
        group_gate: the map is multiplied by the probability that the image is one of its group, from the cosine of its
            `SalientDescriptor` with the mean of the group's (`GroupGate`; ours, with `recnet` only). What is salient is
            taken from a copy of RecNet's head, which stays as it was; the mean travels in further channels of X and of
            the state, beside what the recurrent unit remembers, so the gate does not depend on the order. It needs
            `adapt` before training.
        decoder_filters: channels of the decoder's convolutions: one number for each doubling of the size, by default
            (256, 128, 64, 32). With `recnet`: two, at 1/16 and 1/8, by default (128, 64).
        separable: depthwise separable 3×3 convolutions in the new part (ours).
        normalization: None (the paper) or `"group"`, group normalisation in the new part (ours).
        freeze_pretrained: do not train the backbone, nor RecNet's integration and attention: no gradient is computed in
            them. RecNet's head is trained in any case.
        name: of the model.

    Input shape:
        A dict: `"images"`, `(batch, images, height, width, 3)`, RGB in 0…255, any number of images; `"mask"`,
        `(batch, images)`, boolean, False where a group is padded.

    Output shape:
        `(batch, images, height, width, 1)`, logits, float32. What stands at padded images means nothing.

    Raises:
        ValueError: if an argument is unknown or arguments contradict each other.
        WeightsError: if the backbone's weights cannot be had.

    Example:
        >>> model = RCAUNet.from_recnet("recnet_lite0")
        >>> model.compile("adam", keras_recnet.losses.CoSaliencyLoss(dice_weight=0.5))
        >>> model.fit(groups)  # of ({"images": …, "mask": …}, masks)
        >>> model.save_to_preset("my_preset")

    Reference:
        RCAU paper: Fig. 1, Eq. 1–3 and 11, Table 2 (`recurrent_unit`, `use_…`).
    """

    task = "cosaliency"

    def __init__(
        self,
        backbone="vgg16",
        image_size=224,
        *,
        backbone_weights="imagenet",
        recnet=None,
        recurrent_unit="rcau",
        use_reset_gate=True,
        use_spatial_attention=True,
        use_channel_attention=True,
        use_bias=False,
        spatial_reduction=1,
        update_bias=None,
        channels=None,
        foreground_gate=False,
        group_attention=False,
        group_dropout=0.2,
        group_gate=False,
        decoder_filters=None,
        separable=False,
        normalization=None,
        freeze_pretrained=False,
        name="rcaunet",
    ):
        if recurrent_unit not in parts.RECURRENT_UNITS:
            raise ValueError(
                f"`recurrent_unit` must be one of {parts.RECURRENT_UNITS}. Received: recurrent_unit={recurrent_unit!r}"
            )
        if normalization not in (None, "group"):
            raise ValueError(
                f"`normalization` must be None or 'group': the images of a group are no batch to take statistics of. "
                f"Received: normalization={normalization!r}"
            )
        default = TRANSPOSED_FILTERS if recnet is None else JOINED_FILTERS
        decoder_filters = default if decoder_filters is None else tuple(decoder_filters)
        if len(decoder_filters) != len(default):
            raise ValueError(
                f"`decoder_filters` must be {len(default)} numbers {'without' if recnet is None else 'with'} `recnet`. "
                f"Received: decoder_filters={decoder_filters!r}"
            )
        for option, given in (("foreground_gate", foreground_gate), ("group_gate", group_gate)):
            if given and recnet is None:
                raise ValueError(f"`{option}` needs `recnet`. Received: {option}=True, recnet=None")
        for option, given in (("group_attention", group_attention), ("group_gate", group_gate)):
            if given and recurrent_unit is None:
                raise ValueError(f"`{option}` needs a group branch. Received: {option}=True, recurrent_unit=None")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        rcau_options = {
            "use_reset_gate": use_reset_gate,
            "use_spatial_attention": use_spatial_attention,
            "use_channel_attention": use_channel_attention,
            "use_bias": use_bias,
            "spatial_reduction": spatial_reduction,
            "update_bias": update_bias,
        }

        # Layers
        head, head_inputs = None, []
        if recnet is None:
            features, strides = parts.backbone_features(backbone, (height, width), backbone_weights)
        else:
            features, strides, head, head_inputs = parts.recnet_features(
                backbone, (height, width), backbone_weights, recnet, with_map=group_gate
            )
        pretrained = Pretrained(features, freeze=freeze_pretrained, name="pretrained")
        projection = parts.projection(
            features, strides, channels, normalization, foreground_gate=foreground_gate, descriptor=group_gate
        )
        descriptor_channels = projection.get_layer(parts.DESCRIPTOR_CHANNELS).output.shape[-1] if group_gate else 0
        cell = parts.cell_of(recurrent_unit, rcau_options, descriptor_channels)
        image = keras.Input((height, width, 3), name="image")
        extracted = pretrained(image)
        x = projection({name: extracted[name] for name in projection.input})
        encoder = keras.Model(image, {"x": x, **{name: extracted[name] for name in head_inputs}}, name="encoder")
        shapes = {name: tensor.shape[1:] for name, tensor in encoder.output.items()}
        if cell is not None:
            cell.build(x.shape)
            shapes["state"] = cell.state_size[0]
        decoder = parts.decoder(
            shapes,
            cell,
            filters=decoder_filters,
            image_size=(height, width),
            separable=separable,
            normalization=normalization,
            group_attention=group_attention,
            group_dropout=group_dropout,
            descriptor_channels=descriptor_channels,
            head=head,
            head_inputs=head_inputs,
        )
        rnn = None if cell is None else GroupRNN(cell, return_state=True, name="group")
        step = None if cell is None else parts.step_of(cell, x.shape[1:])
        parts.without_xla(*(part for part in (features, encoder, step, decoder) if part is not None))

        # Functional model
        images = keras.Input((None, height, width, 3), name="images")
        mask = keras.Input((None,), dtype="bool", name="mask")
        logits = _of_groups(encoder(MergeGroups(name="merged_images")(images)), mask, rnn, decoder)
        super().__init__(inputs={"images": images, "mask": mask}, outputs=logits, name=name)

        # A function, not a model: it has no weights of its own to be saved.
        self._step = lambda: step

        # Configuration
        self.backbone_name = backbone
        self.image_size = (height, width)
        self.recnet = None if recnet is None else parts.foreground_arguments(recnet)
        self.recurrent_unit = recurrent_unit
        self.use_reset_gate = use_reset_gate
        self.use_spatial_attention = use_spatial_attention
        self.use_channel_attention = use_channel_attention
        self.use_bias = use_bias
        self.spatial_reduction = spatial_reduction
        self.update_bias = update_bias
        self.channels = channels
        self.foreground_gate = foreground_gate
        self.group_attention = group_attention
        self.group_dropout = group_dropout
        self.group_gate = group_gate
        self.decoder_filters = decoder_filters
        self.separable = separable
        self.normalization = normalization
        self.freeze_pretrained = freeze_pretrained

    @property
    def encoder(self) -> keras.Model:
        """Image `(batch, height, width, 3)` → dict of its features: `"x"`, and what the decoder needs beside it."""
        return self.get_layer("encoder")

    @property
    def decoder(self) -> keras.Model:
        """Dict of an image's features and the group's `"state"` → logits `(batch, height, width, 1)`."""
        return self.get_layer("decoder")

    @property
    def cell(self) -> keras.layers.Layer | None:
        """The group branch's cell; None without a group branch."""
        return None if self.recurrent_unit is None else self.get_layer("group").cell

    @property
    def step(self) -> keras.Model | None:
        """Dict of `"x"` and `"state"` → the next state. The first state is `cell.start(x)` of the first image."""
        return self._step()

    @property
    def pretrained(self) -> keras.Model:
        """The pretrained part: image → dict of the features that all else is computed from."""
        return self.encoder.get_layer("pretrained").layer

    @property
    def backbone(self) -> keras.Model:
        """The backbone inside of the pretrained part."""
        return next(layer for layer in self.pretrained.layers if isinstance(layer, keras.Model))

    def from_features(self) -> keras.Model:
        """The trainable part alone, to train it with the pretrained part's features computed once and kept.

        Returns:
            A functional model that shares this model's weights. Input: a dict of the outputs of `pretrained`, each with
            `(batch, images)` in front, and `"mask"`. Output: the logits, as this model's.

        Example:
            >>> features = model.pretrained.predict(images)  # of all images, once
            >>> trained = model.from_features()
            >>> trained.compile("adam", CoSaliencyLoss())
            >>> trained.fit(groups_of_features)  # trains the weights of `model`
        """
        inputs = {
            name: keras.Input((None, *tensor.shape[1:]), name=name) for name, tensor in self.pretrained.output.items()
        }
        mask = keras.Input((None,), dtype="bool", name="mask")
        merged = {name: MergeGroups(name=f"merged_{name}")(tensor) for name, tensor in inputs.items()}
        projection = self.encoder.get_layer("projection")
        names = [name for name in self.encoder.output if name != "x"]
        features = {
            "x": projection({name: merged[name] for name in projection.input}),
            **{name: merged[name] for name in names},
        }
        rnn = None if self.cell is None else self.get_layer("group")
        return GroupModel(
            {**inputs, "mask": mask}, _of_groups(features, mask, rnn, self.decoder), name=f"{self.name}_from_features"
        )

    def adapt(self, features) -> None:
        """Learns how images vary, for the group's gate: see `SalientDescriptor.adapt`. To be called before training.

        `keras-recnet train` does so by itself.

        Args:
            features: iterable of outputs of `pretrained`, dicts of arrays, for a batch of images each; some thousand
                images in all. Of each dict only `described` is looked at.

        Raises:
            ValueError: if the model has no gate, `features` holds something else, or there are fewer than two images.

        Example:
            >>> model = RCAUNet.from_recnet("recnet_lite0", group_gate=True)
            >>> model.adapt([model.pretrained.predict(images)])  # (images, height, width, 3) in 0…255
        """
        if not self.group_gate:
            raise ValueError("Without a gate there is nothing to adapt. Received: group_gate=False")
        layer, described = self._descriptor(), []
        for batch in features:
            if not isinstance(batch, dict) or not set(self.described) <= set(batch):
                raise ValueError(
                    f"`features` must be dicts with {self.described}, such as `[model.pretrained.predict(images)]`. "
                    f"Received: one of type {type(batch).__name__}"
                )
            compared = (keras.ops.cast(batch[name], "float32") for name in self.described)
            described.append(keras.ops.convert_to_numpy(layer.describe(*compared)))
        layer.adapt(np.concatenate(described) if described else np.zeros((0, layer.mean.shape[0])))

    @property
    def described(self) -> tuple[str, str]:
        """Which outputs of `pretrained` the group's gate compares images by: features, and where they are salient."""
        inputs = self._descriptor().input
        return tuple(tensor.name for tensor in inputs)

    def _descriptor(self):
        return self.encoder.get_layer("projection").get_layer(parts.DESCRIPTOR)

    def to_inference(self) -> keras.Model:
        """The functional model from a group to maps in 0…1, `(batch, images, height, width, 1)`; it shares the weights.

        Its input is this model's.
        """
        saliency = layers.Activation("sigmoid", name="saliency", dtype="float32")(self.outputs[0])
        return keras.Model(self.input, saliency, name=f"{self.name}_inference")

    @classmethod
    def from_recnet(cls, recnet, image_size=224, **arguments) -> "RCAUNet":
        """The edge version: built around a RecNet's foreground path, and with its weights.

        Args:
            recnet: a `RecNet`, or the name or folder of its preset.
            image_size: height and width; not necessarily RecNet's.
            **arguments: of the constructor; the edge version's are the default: `channels=192, separable=True,
                spatial_reduction=2, update_bias=1.5, freeze_pretrained=True`.

        Raises:
            PresetError: if there is no such preset.
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

    def init_from_recnet(self, recnet: RecNet) -> None:
        """Copies the weights of a RecNet's foreground path; the model must have been built for such a RecNet.

        Raises:
            ValueError: if a weight is missing in it, or has another shape.
        """
        if self.recnet is None:
            raise ValueError("This model contains no RecNet: make it with `RCAUNet.from_recnet`. Received: recnet=None")
        source = {weight.path: weight for weight in recnet.weights}
        targets = [*self.pretrained.weights, *self.decoder.get_layer("head").weights]
        paths = [weight.path.replace(parts.COPIED_HEAD, parts.HEAD) for weight in targets]
        for weight, path in zip(targets, paths, strict=True):
            found = source.get(path)
            if found is None or found.shape != weight.shape:
                raise ValueError(
                    f"The RecNet does not fit: expected {path!r} of shape {tuple(weight.shape)}. Received: "
                    f"{'no such weight' if found is None else tuple(found.shape)} in {recnet.name!r}"
                )
        for weight, path in zip(targets, paths, strict=True):
            # a copy: on JAX both would share one buffer, which training the one takes from the other
            weight.assign(np.array(keras.ops.convert_to_numpy(source[path])))

    def get_config(self):
        return {
            "backbone": self.backbone_name,
            "image_size": list(self.image_size),
            "backbone_weights": None,  # they are in the model's own weights by now
            "recnet": None if self.recnet is None else dict(self.recnet),
            "recurrent_unit": self.recurrent_unit,
            "use_reset_gate": self.use_reset_gate,
            "use_spatial_attention": self.use_spatial_attention,
            "use_channel_attention": self.use_channel_attention,
            "use_bias": self.use_bias,
            "spatial_reduction": self.spatial_reduction,
            "update_bias": self.update_bias,
            "channels": self.channels,
            "foreground_gate": self.foreground_gate,
            "group_attention": self.group_attention,
            "group_dropout": self.group_dropout,
            "group_gate": self.group_gate,
            "decoder_filters": list(self.decoder_filters),
            "separable": self.separable,
            "normalization": self.normalization,
            "freeze_pretrained": self.freeze_pretrained,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def _of_groups(features, mask, rnn, decoder):
    """Logits `(batch, images, height, width, 1)` from the features of all images, laid one after another."""
    inputs = dict(features)
    if rnn is not None:
        x = SplitGroups(name="split_x")([features["x"], mask])
        _, state = rnn(x, mask=mask)
        inputs["state"] = BroadcastGroups(name="broadcast_state")([state, mask])
    return SplitGroups(name="logits")([decoder(inputs), mask])
