"""What `RCAUNet` is put together from: pretrained features, the group's features and the two decoders."""

import keras
from keras import layers

from keras_recnet import backbones
from keras_recnet.layers import ConvGRUCell, MeanCell, Pretrained, RCAUCell
from keras_recnet.layers._bilinear import Bilinear
from keras_recnet.layers._convolution import convolution
from keras_recnet.models.recnet import STRIDE as RECNET_STRIDE
from keras_recnet.models.recnet import RecNet

STRIDE = 16  # of the group's features
RECURRENT_UNITS = ("rcau", "gru", "mean", None)
FOREGROUND = "foreground"  # name of RecNet's integrated features among the pretrained ones


def cell_of(recurrent_unit, rcau_options):
    """The cell of a recurrent unit, or None for None."""
    if recurrent_unit == "rcau":
        return RCAUCell(**rcau_options, name="cell")
    return {"gru": ConvGRUCell, "mean": MeanCell}[recurrent_unit](name="cell") if recurrent_unit else None


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


def recnet_features(backbone, image_size, weights, arguments):
    """Image → what RecNet's foreground head sees, and the backbone's side-outputs of stride 16 and coarser.

    Of RecNet's background branch only what the foreground's attention looks at remains.

    Returns:
        The functional model; its strides as above; RecNet's foreground head; and the names of the head's inputs.
    """
    recnet = RecNet(backbone, image_size, backbone_weights=weights, **foreground_arguments(arguments))
    head = recnet.get_layer("foreground_head")
    foreground, *finer = keras.tree.flatten(head.input)
    # Keras gives a layer's dict of inputs as a list, sorted by the keys
    inputs = recnet.get_layer("foreground_integration").input
    side_outputs = dict(zip(sorted(recnet.backbone.strides), inputs, strict=True))
    strides = _coarse(recnet.backbone.strides, backbone)
    names = [FOREGROUND]
    for tensor in finer:
        names += [name for name, side_output in side_outputs.items() if side_output is tensor]
    outputs = {FOREGROUND: foreground, **{name: side_outputs[name] for name in (*names[1:], *strides)}}
    return keras.Model(recnet.input, outputs, name="features"), strides, head, names


def foreground_arguments(arguments):
    """The arguments of a RecNet of which the foreground alone is wanted."""
    arguments = {key: value for key, value in arguments.items() if key not in ("backbone", "image_size", "name")}
    arguments.pop("backbone_weights", None)
    attention = arguments.get("attention", "both" if arguments.get("branches", "both") == "both" else None)
    # the direction that helps the background is not needed
    return {**arguments, "attention": "foreground" if attention in ("both", "foreground") else None}


def projection(features, strides, channels, normalization, foreground=None):
    """The group's features X, `(H / 16, W / 16, C)`, from features of the given strides: a functional model.

    With `foreground`, the name of RecNet's integrated features, X is weighted by a map that is learned from these.
    """
    names = [*strides, foreground] if foreground else [*strides]
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
    if foreground:
        salient = layers.AveragePooling2D(STRIDE // RECNET_STRIDE, name="averaged_foreground")(inputs[foreground])
        salient = layers.Conv2D(1, 1, activation="sigmoid", name="foreground_gate")(salient)
        x = layers.Multiply(name="salient")([x, salient])
    return keras.Model(inputs, x, name="projection")


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
        head: RecNet's foreground head, or None: transposed convolutions, the paper.
        head_inputs: names of what the head sees.
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in inputs.items()}
    options = {"separable": separable, "normalization": normalization}
    x = inputs["x"]
    for index in range(3):  # S, Eq. 2
        x = convolution(inputs["x"].shape[-1], 3, **options, name=f"single_{index + 1}")(x)
    if cell is not None:
        group = cell.representation(inputs["state"])
        seen = [x, group]
        if group_attention:
            weights = _comparison(inputs["x"], group, group_dropout)
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


def _coarse(strides, backbone):
    coarse = {name: stride for name, stride in sorted(strides.items()) if stride >= STRIDE}
    if not coarse:
        raise ValueError(
            f"`backbone` must have a side-output of stride {STRIDE} or coarser for the group's features. Received: "
            f"backbone={backbone!r} with strides={strides}"
        )
    return coarse
