"""What `RCAUNet` is put together from: pretrained features, the group's features and the two decoders."""

import math

import keras
from keras import layers

from keras_recnet import backbones
from keras_recnet.layers import (
    ConvGRUCell,
    GroupGate,
    MeanCell,
    Pretrained,
    RCAUCell,
    SalientDescriptor,
    WithMeanCell,
)
from keras_recnet.layers._bilinear import Bilinear
from keras_recnet.layers._convolution import convolution
from keras_recnet.models.recnet import STRIDE as RECNET_STRIDE
from keras_recnet.models.recnet import RecNet

STRIDE = 16  # of the group's features
RECURRENT_UNITS = ("rcau", "gru", "mean", None)
# names among the pretrained features
FOREGROUND = "foreground"  # RecNet's integrated features
SALIENT = "salient"  # RecNet's map, on the grid of the coarsest side-output
# names of layers
DESCRIPTOR, DESCRIPTOR_CHANNELS = "descriptor", "descriptor_channels"
HEAD, COPIED_HEAD = "foreground_head", "salient_head"  # RecNet's layer, and that of the map


def cell_of(recurrent_unit, rcau_options, mean_channels=0):
    """The cell of a recurrent unit, or None for None; of the last `mean_channels` of X it takes the mean."""
    if recurrent_unit is None:
        return None
    if recurrent_unit == "mean":
        return MeanCell(name="cell")
    cell = RCAUCell(**rcau_options, name="cell") if recurrent_unit == "rcau" else ConvGRUCell(name="cell")
    return WithMeanCell(cell, mean_channels, name="cell_with_mean") if mean_channels else cell


def step_of(cell, x_shape):
    """Dict of an image's `"x"` and the `"state"` before it → the state after it: a functional model."""
    x, state = keras.Input(x_shape, name="x"), keras.Input(cell.state_size[0], name="state")
    return keras.Model({"x": x, "state": state}, cell(x, [state])[1][0], name="step")


def without_xla(*models):
    """Keras compiles `predict` with XLA where it can; on a processor that takes longer than it ever saves."""
    for model in models:
        if keras.backend.backend() == "tensorflow":
            model.jit_compile = False


def backbone_features(backbone, image_size, weights):
    """Image → the backbone's side-outputs of stride 16 and coarser.

    Returns:
        The functional model, and a dict of the strides of its outputs.
    """
    model = backbones.build(backbone, image_size, weights=weights)
    strides = _coarse(model.strides, backbone)
    image = keras.Input((*image_size, 3), name="image")
    side_outputs = model(image)
    return keras.Model(image, {name: side_outputs[name] for name in strides}, name="features"), strides


def recnet_features(backbone, image_size, weights, arguments, *, with_map=False):
    """Image → what RecNet's foreground head sees, and the backbone's side-outputs of stride 16 and coarser.

    Of RecNet's background branch only what the foreground's attention looks at remains. `with_map` adds RecNet's own
    map, made by a copy of its head, on the grid of the coarsest side-output.

    Returns:
        The functional model; its strides as above; RecNet's foreground head; and the names of the head's inputs.
    """
    recnet = RecNet(backbone, image_size, backbone_weights=weights, **foreground_arguments(arguments))
    head = recnet.get_layer(HEAD)
    foreground, *finer = keras.tree.flatten(head.input)
    # Keras gives a layer's dict of inputs as a list, sorted by the keys
    inputs = recnet.get_layer("foreground_integration").input
    side_outputs = dict(zip(sorted(recnet.backbone.strides), inputs, strict=True))
    strides = _coarse(recnet.backbone.strides, backbone)
    names = [FOREGROUND]
    for tensor in finer:
        names += [name for name, side_output in side_outputs.items() if side_output is tensor]
    outputs = {FOREGROUND: foreground, **{name: side_outputs[name] for name in (*names[1:], *strides)}}
    if with_map:
        # the head itself goes on to be trained
        copy = type(head).from_config({**head.get_config(), "name": COPIED_HEAD})
        saliency = layers.Activation("sigmoid", name="saliency")(copy([foreground, *finer]))
        cells = saliency.shape[1] // outputs[coarsest(strides)].shape[1]
        outputs[SALIENT] = layers.AveragePooling2D(cells, name=SALIENT)(saliency)
    return keras.Model(recnet.input, outputs, name="features"), strides, head, names


def foreground_arguments(arguments):
    """The arguments of a RecNet of which the foreground alone is wanted."""
    arguments = {key: value for key, value in arguments.items() if key not in ("backbone", "image_size", "name")}
    arguments.pop("backbone_weights", None)
    attention = arguments.get("attention", "both" if arguments.get("branches", "both") == "both" else None)
    # the direction that helps the background is not needed
    return {**arguments, "attention": "foreground" if attention in ("both", "foreground") else None}


def projection(features, strides, channels, normalization, *, foreground_gate=False, descriptor=False):
    """The group's features X, `(H / 16, W / 16, C)`, from features of the given strides: a functional model.

    With `foreground_gate` X is weighted by a map that is learned from RecNet's integrated features. With `descriptor`
    the image's `SalientDescriptor` follows in further channels.
    """
    names = [*strides, *([FOREGROUND] if foreground_gate else []), *([SALIENT] if descriptor else [])]
    inputs = {name: keras.Input(features.output[name].shape[1:], name=name) for name in names}
    enlarged = [
        layers.UpSampling2D(stride // STRIDE, interpolation="bilinear", name=f"enlarged_{name}")(inputs[name])
        if stride > STRIDE
        else inputs[name]
        for name, stride in strides.items()
    ]
    x = layers.Concatenate(name="coarse")(enlarged) if len(enlarged) > 1 else enlarged[0]
    if channels is not None:
        x = convolution(channels, 1, normalization=normalization, name="reduced")(x)
    if foreground_gate:
        salient = layers.AveragePooling2D(STRIDE // RECNET_STRIDE, name="averaged_foreground")(inputs[FOREGROUND])
        salient = layers.Conv2D(1, 1, activation="sigmoid", name="foreground_gate")(salient)
        x = layers.Multiply(name="gated")([x, salient])
    if descriptor:
        described = [inputs[coarsest(strides)], inputs[SALIENT]]
        vector = SalientDescriptor(dtype="float32", name=DESCRIPTOR)(described)
        x = layers.Concatenate(name="with_descriptor")([x, _as_channels(vector, x.shape[1:3])])
    return keras.Model(inputs, x, name="projection")


def _as_channels(vector, grid):
    """A vector as so many channels of a grid as hold it, zeros behind it; what goes into the state is one tensor."""
    size, positions = vector.shape[-1], math.prod(grid)
    channels = math.ceil(size / positions)
    vector = layers.Reshape((size, 1), name="descriptor_column")(vector)
    vector = layers.ZeroPadding1D((0, channels * positions - size), name="padded_descriptor")(vector)
    return layers.Reshape((*grid, channels), name=DESCRIPTOR_CHANNELS)(vector)


def _as_vector(channels, name):
    """The vector in `_as_channels`, with the zeros behind it."""
    return layers.Reshape((-1,), name=name, dtype="float32")(channels)


def decoder(
    inputs,
    cell,
    *,
    filters,
    image_size,
    separable,
    normalization,
    group_attention=False,
    group_dropout=0.0,
    descriptor_channels=0,
    head=None,
    head_inputs=(),
):
    """One image's features and the group's state → logits `(height, width, 1)`: a functional model.

    Args:
        inputs: dict of the shapes of `"x"`, `"state"` (without a group branch: not there) and, with a head, those of
            `head_inputs`.
        cell: of the group branch, or None.
        filters: channels of the convolutions.
        image_size: height and width.
        separable: depthwise separable 3×3 convolutions.
        normalization: None or `"group"`.
        group_attention: show S a second time, weighted by how the image and the group compare.
        group_dropout: share of the compared means that a training step leaves out.
        descriptor_channels: how many of the last channels of `"x"` and of what the cell represents hold a descriptor,
            for the gate that the map goes through; 0: no gate.
        head: RecNet's foreground head, or None: transposed convolutions, the paper.
        head_inputs: names of what the head sees.
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in inputs.items()}
    options = {"separable": separable, "normalization": normalization}
    x, group, described = inputs["x"], None, []
    if cell is not None:
        group = cell.representation(inputs["state"])
    if descriptor_channels:
        own = x.shape[-1] - descriptor_channels
        (x, of_image), (group, of_group) = (keras.ops.split(tensor, [own], axis=-1) for tensor in (x, group))
        _, count = keras.ops.split(inputs["state"], [inputs["state"].shape[-1] - 1], axis=-1)  # of the cell's mean
        count = layers.GlobalAveragePooling2D(name="count", dtype="float32")(count)
        described = [_as_vector(of_image, "of_image"), _as_vector(of_group, "of_group"), count]
    features = x
    for index in range(3):  # S, Eq. 2
        x = convolution(features.shape[-1], 3, **options, name=f"single_{index + 1}")(x)
    if cell is not None:
        seen = [x, group]
        if group_attention:
            weights = _comparison(features, group, group_dropout)
            seen.append(layers.Multiply(name="weighted_single")([x, weights]))
        x = layers.Concatenate(name="single_and_group")(seen)
    x = convolution(filters[0], 3, **options, name="merged")(x)
    if head is None:
        logits = _transposed(x, filters, options)
    else:
        logits = _joined(x, filters, options, head, [inputs[name] for name in head_inputs])
    factor = image_size[0] // logits.shape[1]
    if factor > 1:
        logits = layers.UpSampling2D(factor, interpolation="bilinear", name="enlarged")(logits)
    if described:
        logits = GroupGate(dtype="float32", name="group_gate")([logits, *described])
    logits = layers.Activation("linear", name="logits", dtype="float32")(logits)
    return keras.Model(inputs, logits, name="decoder")


def _comparison(x, group, dropout):
    """A weight for each channel, `(1, 1, C)` in 0…1, from the means over the positions of an image and its group."""
    channels = x.shape[-1]
    embedding = layers.Conv2D(channels, 1, name="compared")
    embedded = []
    for name, features in (("image", x), ("group", group)):
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"mean_of_{name}")(features)
        # as large for a small object as for a large one
        mean = layers.LayerNormalization(epsilon=1e-6, name=f"normalized_{name}")(mean)
        embedded.append(embedding(layers.Dropout(dropout, name=f"dropout_of_{name}")(mean)))
    compared = layers.Multiply(name="image_and_group")(embedded)
    compared = layers.Conv2D(channels, 1, activation="relu", name="comparison")(compared)
    return layers.Conv2D(channels, 1, activation="sigmoid", name="weights")(compared)


def _transposed(x, filters, options):
    for index, width in enumerate(filters):
        x = convolution(width, 3, **options, name=f"decoder_{index + 1}")(x)
        x = layers.Conv2DTranspose(
            width, 4, 2, padding="same", kernel_initializer=Bilinear(), name=f"enlarged_{index + 1}"
        )(x)
    return layers.Conv2D(1, 1, name="pixel_logits")(x)


def _joined(x, filters, options, head, head_inputs):
    foreground, *finer = head_inputs
    x = layers.UpSampling2D(STRIDE // RECNET_STRIDE, interpolation="bilinear", name="enlarged_group")(x)
    lateral = convolution(filters[1], 1, normalization=options["normalization"], name="lateral")(foreground)
    x = layers.Concatenate(name="group_and_foreground")([x, lateral])
    x = convolution(filters[1], 3, **options, name="joined")(x)
    # starts as nothing, so that the map starts as RecNet's
    x = layers.Conv2D(foreground.shape[-1], 1, kernel_initializer="zeros", name="residual")(x)
    x = layers.Add(name="with_group")([foreground, x])
    return Pretrained(head, name="head")([x, *finer])


def coarsest(strides):
    """Name of the coarsest of some side-outputs."""
    return max(strides, key=strides.get)


def _coarse(strides, backbone):
    coarse = {name: stride for name, stride in sorted(strides.items()) if stride >= STRIDE}
    if not coarse:
        raise ValueError(
            f"`backbone` must have a side-output of stride {STRIDE} or coarser for the group's features. Received: "
            f"backbone={backbone!r} with strides={strides}"
        )
    return coarse
