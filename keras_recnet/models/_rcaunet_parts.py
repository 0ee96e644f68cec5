"""Parts of `RCAUNet` that both versions have, and the paper's version: a recurrent unit and transposed convolutions."""

import dataclasses
from collections.abc import Callable

import keras
from keras import layers, ops

from keras_recnet import backbones
from keras_recnet.layers import BroadcastGroups, ConvGRUCell, GroupRNN, RCAUCell, SplitGroups, SumGroups
from keras_recnet.layers._bilinear import Bilinear
from keras_recnet.layers._convolution import convolution

STRIDE = 16  # of the group features
RECURRENT_UNITS = ("rcau", "gru", "mean", None)
TRANSPOSED_FILTERS = (256, 128, 64, 32)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a network for groups. Models and functions map dicts of tensors to dicts of tensors, by name.

    Attributes:
        pretrained: model from an image to its pretrained features.
        backbone: the backbone inside `pretrained`.
        projection: model from pretrained features to the features of an image that the other parts use.
        group: function from the features of all images, `(batch · images, …)`, and the mask to the group's state.
        step: model from the features of an image and the group's state to the next state, or None without a state.
        decoder: model from the features of an image and the group's state to logits of the image's size.
        feature_decoder: the same with logits of the resolution at which training on features computes the loss.
    """

    pretrained: keras.Model
    backbone: keras.Model
    projection: keras.Model
    group: Callable
    step: keras.Model | None
    decoder: keras.Model
    feature_decoder: keras.Model

    def logits(self, features, mask, *, decoder=None):
        """Logits `(batch, images, …)` from the features of all images, `(batch · images, …)`."""
        state = {
            name: BroadcastGroups(dtype=tensor.dtype, name=f"broadcast_{name}")([tensor, mask])
            for name, tensor in self.group(features, mask).items()
        }
        decoder = decoder or self.decoder
        tensors = {**features, **state}
        logits = decoder({name: tensors[name] for name in decoder.input})
        return SplitGroups(name="logits", dtype="float32")([logits, mask])


def paper_parts(backbone, image_size, weights, *, recurrent_unit, rcau_options, channels, decoder_filters) -> Parts:
    """Build the paper's network, see `RCAUNet`."""
    model = backbones.build(backbone, image_size, weights=weights)
    strides = coarse_strides(model, backbone)
    image = keras.Input((*image_size, 3), name="image")
    side_outputs = model(image)
    pretrained = keras.Model(image, {name: side_outputs[name] for name in strides}, name="features")
    inputs = inputs_like(pretrained.output)
    x = at_stride_16(inputs, strides)
    if channels is not None:
        x = convolution(channels, 1, name="reduced")(x)
    projection = keras.Model(inputs, {"x": x}, name="projection")
    group, step = _recurrent_group(recurrent_unit, rcau_options, tuple(x.shape[1:]))

    inputs = {"x": keras.Input(x.shape[1:], name="x")}
    if recurrent_unit is not None:
        inputs["state"] = keras.Input(x.shape[1:], name="state")
    x = inputs["x"]
    for index in range(3):  # S, Eq. 2
        x = convolution(x.shape[-1], 3, name=f"single_{index + 1}")(x)
    if recurrent_unit is not None:
        x = layers.Concatenate(name="single_and_group")([x, inputs["state"]])
    x = convolution(decoder_filters[0], 3, name="merged")(x)
    for index, width in enumerate(decoder_filters):
        x = convolution(width, 3, name=f"decoder_{index + 1}")(x)
        x = layers.Conv2DTranspose(
            width, 4, 2, padding="same", kernel_initializer=Bilinear(), name=f"upsampled_{index + 1}"
        )(x)
    x = layers.Conv2D(1, 1, name="pixel_logits")(x)
    decoder = keras.Model(inputs, layers.Activation("linear", name="logits", dtype="float32")(x), name="decoder")
    return Parts(pretrained, model, projection, group, step, decoder, decoder)


def _recurrent_group(unit, rcau_options, shape):
    """Return the `group` and `step` of `Parts` for features `"x"` of the given shape.

    The state has `"state"`, the representation of the group, and `"count"`, the number of images. Both are 0 before the
    first image, which then initializes the recurrent unit: `G_0 = X_1`.
    """
    if unit is None:
        return lambda features, mask: {}, None
    x, state = keras.Input(shape, name="x"), keras.Input(shape, name="state")
    count = keras.Input((1,), name="count")
    images = ops.reshape(count, (-1, 1, 1, 1))
    if unit == "mean":
        next_state = state + (x - state) / (images + 1.0)

        def group(features, mask):
            total = SumGroups(name="total")([SplitGroups(name="split_x")([features["x"], mask]), mask])
            return {"state": total / ops.reshape(ops.maximum(image_count(mask), 1.0), (-1, 1, 1, 1))}

    else:
        cell = RCAUCell(**rcau_options, name="cell") if unit == "rcau" else ConvGRUCell(name="cell")
        cell.build((None, *shape))
        rnn = GroupRNN(cell, name="group")
        next_state, _ = cell(x, [state + ops.relu(1.0 - images) * x])

        def group(features, mask):
            return {"state": rnn(SplitGroups(name="split_x")([features["x"], mask]), mask=mask)}

    outputs = {"state": next_state, "count": count + 1.0}
    return group, keras.Model({"x": x, "state": state, "count": count}, outputs, name="step")


def image_count(mask):
    """Number of images of each group, `(batch, 1)` float32."""
    return ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)


def coarse_strides(backbone, name):
    """Strides of the side outputs of a backbone at stride 16 and coarser, by name."""
    coarse = {key: stride for key, stride in sorted(backbone.strides.items()) if stride >= STRIDE}
    if not coarse:
        raise ValueError(
            f"`backbone` must have a side output of stride {STRIDE} or coarser for the group features. Received: "
            f"backbone={name!r} with strides={backbone.strides}"
        )
    return coarse


def inputs_like(tensors):
    """Inputs with the names and shapes of a dict of tensors."""
    return {name: keras.Input(tensor.shape[1:], name=name) for name, tensor in tensors.items()}


def at_stride_16(side_outputs, strides, *finer):
    """Concatenate side outputs, upsampled to stride 16, and other tensors at this stride."""
    tensors = [
        layers.UpSampling2D(stride // STRIDE, interpolation="bilinear", name=f"upsampled_{name}")(side_outputs[name])
        if stride > STRIDE
        else side_outputs[name]
        for name, stride in strides.items()
    ]
    tensors += finer
    return layers.Concatenate(name="coarse")(tensors) if len(tensors) > 1 else tensors[0]
