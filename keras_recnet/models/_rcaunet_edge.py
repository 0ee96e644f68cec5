"""The edge version of `RCAUNet`: RecNet's map of each image, corrected by what the images of a group have in common."""

import functools

import keras
from keras import layers

from keras_recnet.layers import ConsensusMaps, Fusion, GroupCorrection, ImageSummary, SplitGroups, SumGroups, UnitLength
from keras_recnet.layers._convolution import convolution
from keras_recnet.models._rcaunet_parts import STRIDE, Parts, at_stride_16, coarse_strides, image_count, inputs_like
from keras_recnet.models.recnet import STRIDE as RECNET_STRIDE
from keras_recnet.models.recnet import RecNet

CHANNELS = 128
DECODER_FILTERS = (128, 64)
FEATURE_STRIDE = 2  # of the logits in training on features: at 4, thin parts of objects are lost from the masks
SUMS = ("consensus", "consensus_moments", "count")  # names of the state

# Without normalization over positions, the embeddings of all positions have nearly the same direction.
_block = functools.partial(convolution, separable=True, normalization="group")


def edge_parts(recnet: RecNet, *, channels, embedding_channels, decoder_filters) -> Parts:
    """Build the parts around a `RecNet` with two branches, see `RCAUNet`."""
    if recnet.branches != "both":
        raise ValueError(f"`recnet` must have two branches. Received: branches={recnet.branches!r}")
    strides = coarse_strides(recnet.backbone, recnet.backbone_name)
    pretrained = keras.Model(
        recnet.input,
        {
            "branches": recnet.logits_of(recnet.fusion),
            "foreground": recnet.foreground_features,
            **{name: recnet.side_outputs[name] for name in strides},
        },
        name="features",
    )
    projection = _projection(pretrained.output, strides, recnet, channels, embedding_channels)
    state = {
        "consensus": keras.Input((embedding_channels,), name="consensus"),
        "consensus_moments": keras.Input((embedding_channels, embedding_channels), name="consensus_moments"),
        "count": keras.Input((1,), name="count"),
    }
    correction = _correction(projection.output, state, decoder_filters)

    def decoder(upsampling, name):
        inputs = {**inputs_like(projection.output), **inputs_like(state)}
        layer = GroupCorrection(recnet.fusion, upsampling, name="logits")
        corrected = correction({key: inputs[key] for key in correction.input})
        return keras.Model(inputs, layer([inputs["branches"], corrected, inputs["count"]]), name=name)

    return Parts(
        pretrained,
        recnet.backbone,
        projection,
        _group,
        _step(projection.output, state),
        decoder(recnet.head_stride, "decoder"),
        decoder(recnet.head_stride // FEATURE_STRIDE, "feature_decoder"),
    )


def _projection(features, strides, recnet, channels, embedding_channels):
    """Build the model from pretrained features to the inputs of the group branch and the decoder, at stride 16."""
    inputs = inputs_like(features)
    saliency = Fusion(recnet.fusion, dtype="float32", name="recnet_map")(inputs["branches"])
    salient = layers.AveragePooling2D(STRIDE // recnet.head_stride, name="salient", dtype="float32")(saliency)
    foreground = layers.AveragePooling2D(STRIDE // RECNET_STRIDE, name="pooled_foreground")(inputs["foreground"])
    coarse = at_stride_16(inputs, strides, foreground)
    x = _block(channels, 1, name="reduced")(coarse)
    for index in range(2):
        x = _block(channels, 3, name=f"single_{index + 1}")(x)
    embedding = _block(2 * embedding_channels, 1, name="embedding_1")(coarse)
    embedding = layers.Conv2D(embedding_channels, 1, name="embedding_2")(embedding)
    embedding = UnitLength(name="embedding")(embedding)
    vector, moments = ImageSummary(name="summary")([embedding, salient])
    outputs = {
        "branches": inputs["branches"],
        "embedding": embedding,
        "foreground": inputs["foreground"],
        "moments": moments,
        "salient": salient,
        "vector": vector,
        "x": x,
    }
    return keras.Model(inputs, outputs, name="projection")


def _group(features, mask):
    """The state: sums over the group, so that each image can subtract its own part."""
    sums = []
    for name in ("vector", "moments"):
        of_images = SplitGroups(dtype="float32", name=f"split_{name}")([features[name], mask])
        sums.append(SumGroups(name=f"sum_of_{name}")([of_images, mask]))
    return dict(zip(SUMS, (*sums, image_count(mask)), strict=True))


def _step(features, state):
    inputs = {**inputs_like({name: features[name] for name in ("vector", "moments")}), **inputs_like(state)}
    outputs = (
        # not `+`, which Keras turns into the addition of a bias if the batch size is 1; GPU delegates lack that
        inputs["consensus"] - (-inputs["vector"]),
        inputs["consensus_moments"] + inputs["moments"],
        inputs["count"] + 1.0,
    )
    return keras.Model(inputs, dict(zip(SUMS, outputs, strict=True)), name="step")


def _correction(features, state, filters):
    """Build the model that computes the two channels of `GroupCorrection`, at stride 8."""
    names = ("embedding", "foreground", "moments", "salient", "vector", "x")
    inputs = {**inputs_like({name: features[name] for name in names}), **inputs_like(state)}
    maps = ConsensusMaps(name="consensus_maps")([inputs[name] for name in ("embedding", "vector", "moments", *SUMS)])
    x = layers.Concatenate(name="image_and_group")([inputs["x"], inputs["salient"], maps])
    x = _block(filters[0], 3, name="merged")(x)
    x = layers.UpSampling2D(STRIDE // RECNET_STRIDE, interpolation="bilinear", name="upsampled_merged")(x)
    lateral = _block(filters[1] // 2, 1, name="lateral")(inputs["foreground"])
    x = layers.Concatenate(name="with_foreground")([x, lateral])
    for index in range(2):
        x = _block(filters[1], 3, name=f"joined_{index + 1}")(x)
    # initialized to zero, so that the initial map is RecNet's
    x = layers.Conv2D(2, 1, kernel_initializer="zeros", name="gate_and_residual")(x)
    return keras.Model(inputs, x, name="correction")
