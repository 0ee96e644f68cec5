"""Parts of `RCAUNet`: the pretrained part, the projection to group features, the recurrent cell and the decoder."""

import dataclasses
import math

import keras
from keras import layers

from keras_recnet import backbones
from keras_recnet.layers import (
    ConvGRUCell,
    FrozenStatistics,
    GroupGate,
    MeanCell,
    RCAUCell,
    SalientDescriptor,
    WithMeanCell,
)
from keras_recnet.layers._bilinear import Bilinear
from keras_recnet.layers._convolution import convolution
from keras_recnet.models.recnet import STRIDE as RECNET_STRIDE
from keras_recnet.models.recnet import RecNet

STRIDE = 16  # of the group features X
RECURRENT_UNITS = ("rcau", "gru", "mean", None)
SALIENT = "salient"  # pretrained feature: RecNet's map at the stride of the coarsest side output
# names of layers
DESCRIPTOR = "descriptor"
HEAD, COPIED_HEAD = "foreground_head", "salient_head"


@dataclasses.dataclass(frozen=True)
class PretrainedPart:
    """The pretrained part of the network.

    Attributes:
        features: functional model from an image to a dict of features.
        backbone: the backbone inside `features`.
        strides: strides of the backbone's side outputs at stride 16 and coarser, by name.
        head: RecNet's foreground head, or None without a RecNet.
        head_inputs: names of the features that the head receives.
    """

    features: keras.Model
    backbone: keras.Model
    strides: dict[str, int]
    head: keras.layers.Layer | None = None
    head_inputs: tuple[str, ...] = ()


def pretrained_backbone(backbone, image_size, weights):
    """Build the pretrained part of the paper's network: the backbone's side outputs at stride 16 and coarser."""
    model = backbones.build(backbone, image_size, weights=weights)
    strides = _coarse_strides(model, backbone)
    image = keras.Input((*image_size, 3), name="image")
    side_outputs = model(image)
    features = keras.Model(image, {name: side_outputs[name] for name in strides}, name="features")
    return PretrainedPart(features, model, strides)


def pretrained_recnet(backbone, image_size, weights, arguments, *, with_map=False):
    """Build the pretrained part of the edge version: the foreground path of a RecNet without its head.

    Its features are the inputs of RecNet's foreground head and the backbone's side outputs at stride 16 and coarser. Of
    RecNet's background branch, only the part that the foreground attends to is kept. `with_map` adds RecNet's own map,
    computed by a copy of its head and averaged to the stride of the coarsest side output.
    """
    recnet = RecNet(backbone, image_size, backbone_weights=weights, **foreground_arguments(arguments))
    strides = _coarse_strides(recnet.backbone, backbone)
    head, head_inputs = recnet.get_layer(HEAD), dict(recnet.head_inputs)
    outputs = {**head_inputs, **{name: recnet.side_outputs[name] for name in strides}}
    if with_map:
        # a copy, because the head itself is trained further
        copy = type(head).from_config({**head.get_config(), "name": COPIED_HEAD})
        saliency = layers.Activation("sigmoid", name="saliency")(copy(list(head_inputs.values())))
        factor = saliency.shape[1] // outputs[coarsest(strides)].shape[1]
        outputs[SALIENT] = layers.AveragePooling2D(factor, name=SALIENT)(saliency)
    features = keras.Model(recnet.input, outputs, name="features")
    return PretrainedPart(features, recnet.backbone, strides, head, tuple(head_inputs))


def foreground_arguments(arguments):
    """Constructor arguments of a RecNet, reduced to those of its foreground path."""
    excluded = ("backbone", "image_size", "backbone_weights", "name")
    arguments = {key: value for key, value in arguments.items() if key not in excluded}
    attention = arguments.get("attention", "both" if arguments.get("branches", "both") == "both" else None)
    # attention in the other direction only updates the background
    return {**arguments, "attention": "foreground" if attention in ("both", "foreground") else None}


def projection(pretrained, channels, *, descriptor=False):
    """Build the functional model from pretrained features to the group features X, `(H / 16, W / 16, C)`.

    Args:
        pretrained: a `PretrainedPart`.
        channels: C, the output channels of a 1×1 convolution; None: no convolution.
        descriptor: append the `SalientDescriptor` of the image as further channels of X.

    Returns:
        The model, and the number of channels that hold the descriptor.
    """
    strides = pretrained.strides
    names = [*strides, SALIENT] if descriptor else list(strides)
    inputs = {name: keras.Input(pretrained.features.output[name].shape[1:], name=name) for name in names}
    upsampled = [
        layers.UpSampling2D(stride // STRIDE, interpolation="bilinear", name=f"upsampled_{name}")(inputs[name])
        if stride > STRIDE
        else inputs[name]
        for name, stride in strides.items()
    ]
    x = layers.Concatenate(name="coarse")(upsampled) if len(upsampled) > 1 else upsampled[0]
    if channels is not None:
        x = convolution(channels, 1, name="reduced")(x)
    descriptor_channels = 0
    if descriptor:
        vector = SalientDescriptor(dtype="float32", name=DESCRIPTOR)([inputs[coarsest(strides)], inputs[SALIENT]])
        vector = _vector_to_channels(vector, x.shape[1:3])
        descriptor_channels = vector.shape[-1]
        x = layers.Concatenate(name="with_descriptor")([x, vector])
    return keras.Model(inputs, x, name="projection"), descriptor_channels


def build_cell(recurrent_unit, rcau_options, mean_channels=0):
    """Build the recurrent cell of the group branch, or None for `recurrent_unit=None`.

    The last `mean_channels` channels of X are averaged over the group, whatever the unit.
    """
    if recurrent_unit is None:
        return None
    if recurrent_unit == "mean":
        return MeanCell(name="cell")
    cell = RCAUCell(**rcau_options, name="cell") if recurrent_unit == "rcau" else ConvGRUCell(name="cell")
    return WithMeanCell(cell, mean_channels, name="cell_with_mean") if mean_channels else cell


def step_model(cell, x_shape):
    """Build the functional model from a dict with an image's `"x"` and the `"state"` to the next state."""
    x, state = keras.Input(x_shape, name="x"), keras.Input(cell.state_size[0], name="state")
    return keras.Model({"x": x, "state": state}, cell(x, [state])[1][0], name="step")


def decoder(shapes, cell, pretrained, *, filters, image_size, separable, descriptor_channels=0):
    """Build the functional model from an image's features and the group's state to logits `(height, width, 1)`.

    Args:
        shapes: shapes of the inputs by name: `"x"`, `"state"` (with a cell) and `pretrained.head_inputs`.
        cell: cell of the group branch, or None.
        pretrained: a `PretrainedPart`. Without a head, transposed convolutions compute the logits, as in the paper.
        filters: channels of the convolutions.
        image_size: height and width.
        separable: depthwise separable 3×3 convolutions.
        descriptor_channels: how many of the last channels of `"x"` and of the cell's representation hold a descriptor
            for the `GroupGate` of the map; 0: no gate.
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    x, group, gate_inputs = inputs["x"], None, []
    if cell is not None:
        group = cell.representation(inputs["state"])
    if descriptor_channels:
        channels = x.shape[-1] - descriptor_channels
        (x, image_vector), (group, group_vector) = (
            keras.ops.split(tensor, [channels], axis=-1) for tensor in (x, group)
        )
        # the last channel of the state is the number of images
        _, count = keras.ops.split(inputs["state"], [inputs["state"].shape[-1] - 1], axis=-1)
        gate_inputs = [
            _channels_to_vector(image_vector, "image_descriptor"),
            _channels_to_vector(group_vector, "group_descriptor"),
            layers.GlobalAveragePooling2D(name="count", dtype="float32")(count),
        ]
    channels = x.shape[-1]
    for index in range(3):  # S, Eq. 2
        x = convolution(channels, 3, separable=separable, name=f"single_{index + 1}")(x)
    if cell is not None:
        x = layers.Concatenate(name="single_and_group")([x, group])
    x = convolution(filters[0], 3, separable=separable, name="merged")(x)
    if pretrained.head is None:
        logits = _transposed_convolutions(x, filters, separable)
    else:
        head_inputs = [inputs[name] for name in pretrained.head_inputs]
        logits = _residual_for_head(x, filters[1], separable, pretrained.head, head_inputs)
    factor = image_size[0] // logits.shape[1]
    if factor > 1:
        logits = layers.UpSampling2D(factor, interpolation="bilinear", name="upsampled")(logits)
    if gate_inputs:
        logits = GroupGate(dtype="float32", name="group_gate")([logits, *gate_inputs])
    logits = layers.Activation("linear", name="logits", dtype="float32")(logits)
    return keras.Model(inputs, logits, name="decoder")


def coarsest(strides):
    """Name of the coarsest side output."""
    return max(strides, key=strides.get)


def disable_xla(*models):
    """Disable XLA for `predict`: on a CPU, compilation takes longer than it saves."""
    for model in models:
        if keras.backend.backend() == "tensorflow":
            model.jit_compile = False


def _coarse_strides(backbone, name):
    """Strides of the side outputs of a backbone at stride 16 and coarser, by name."""
    coarse = {key: stride for key, stride in sorted(backbone.strides.items()) if stride >= STRIDE}
    if not coarse:
        raise ValueError(
            f"`backbone` must have a side output of stride {STRIDE} or coarser for the group features. Received: "
            f"backbone={name!r} with strides={backbone.strides}"
        )
    return coarse


def _vector_to_channels(vector, grid):
    """Reshape vectors `(batch, size)` to `(batch, *grid, channels)`, zero-padded, so that they can be part of X."""
    size, positions = vector.shape[-1], math.prod(grid)
    channels = math.ceil(size / positions)
    vector = layers.Reshape((size, 1), name="descriptor_column")(vector)
    vector = layers.ZeroPadding1D((0, channels * positions - size), name="padded_descriptor")(vector)
    return layers.Reshape((*grid, channels), name="descriptor_channels")(vector)


def _channels_to_vector(channels, name):
    """Reverse `_vector_to_channels`, but keep the zero padding."""
    return layers.Reshape((-1,), name=name, dtype="float32")(channels)


def _transposed_convolutions(x, filters, separable):
    """The paper's decoder, from stride 16 to the size of the image."""
    for index, width in enumerate(filters):
        x = convolution(width, 3, separable=separable, name=f"decoder_{index + 1}")(x)
        x = layers.Conv2DTranspose(
            width, 4, 2, padding="same", kernel_initializer=Bilinear(), name=f"upsampled_{index + 1}"
        )(x)
    return layers.Conv2D(1, 1, name="pixel_logits")(x)


def _residual_for_head(x, filters, separable, head, head_inputs):
    """The edge decoder: add a residual to RecNet's foreground features and apply RecNet's head to the sum."""
    foreground, *finer = head_inputs
    x = layers.UpSampling2D(STRIDE // RECNET_STRIDE, interpolation="bilinear", name="upsampled_group")(x)
    lateral = convolution(filters, 1, name="lateral")(foreground)
    x = layers.Concatenate(name="group_and_foreground")([x, lateral])
    x = convolution(filters, 3, separable=separable, name="joined")(x)
    # initialized to zero, so that the initial map is RecNet's
    x = layers.Conv2D(foreground.shape[-1], 1, kernel_initializer="zeros", name="residual")(x)
    x = layers.Add(name="with_group")([foreground, x])
    return FrozenStatistics(head, name="head")([x, *finer])
