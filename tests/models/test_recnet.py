import itertools

import keras
import numpy as np
import pytest

import keras_recnet
from keras_recnet.layers import FUSIONS
from keras_recnet.losses import SaliencyLoss
from keras_recnet.models import RecNet

EDGE = {
    "backbone": "efficientnet_lite0",
    "backbone_weights": None,
    "integration_filters": 8,
    "key_channels": 8,
    "attention_normalize": "each",
    "scale_scores": True,
    "head_filters": 8,
    "head_stride": 4,
    "separable": True,
    "normalization": "batch",
    "fusion": "average",
}
TABLE_2 = {  # arguments and number of output channels of each row
    "Backbone+Foreground": ({"branches": "foreground", "attention": None}, 1),
    "Backbone+Two Branches": ({"attention": None}, 2),
    "Background-RAM": ({"attention": "background"}, 2),
    "Foreground-RAM": ({"attention": "foreground"}, 2),
    "RecNet": ({"attention": "both"}, 2),
}


def edge(image_size=64, **arguments):
    keras.utils.set_random_seed(0)
    return RecNet(image_size=image_size, **{**EDGE, **arguments})


def images(count=2, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype("float32")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def set_gains(model, value=0.5):
    for name in ("alpha", "beta"):
        if hasattr(model.attention_layer, name):
            getattr(model.attention_layer, name).assign(value)


@pytest.mark.parametrize("row", TABLE_2)
def test_every_row_of_table_2_can_be_built(row):
    arguments, channels = TABLE_2[row]
    model = edge(**arguments)
    logits = numpy(model(images()))
    assert logits.shape == (2, 64, 64, channels)
    assert logits.dtype == "float32"
    saliency = numpy(model.to_inference()(images()))
    assert saliency.shape == (2, 64, 64, 1)
    assert 0 <= saliency.min() <= saliency.max() <= 1


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16", "efficientnet_lite0"])
@pytest.mark.parametrize("head_stride", [8, 2])
def test_every_backbone_supports_rectangular_images(backbone, head_stride):
    model = RecNet(
        backbone,
        (32, 64),
        backbone_weights=None,
        integration_filters=4,
        key_channels=4,
        head_filters=4,
        head_stride=head_stride,
    )
    assert numpy(model(np.zeros((1, 32, 64, 3)))).shape == (1, 32, 64, 2)


def test_every_fusion_of_table_3_equals_its_formula():
    model = edge()
    foreground, background = np.split(1 / (1 + np.exp(-numpy(model(images())).astype("float64"))), 2, axis=-1)
    expected = {
        "subtract": np.maximum(foreground - background, 0),
        "foreground": foreground,
        "inverse_background": 1 - background,
        "average": (foreground + 1 - background) / 2,
    }
    assert expected.keys() == FUSIONS.keys()
    for fusion, value in expected.items():
        np.testing.assert_allclose(numpy(model.to_inference(fusion)(images())), value, atol=1e-5)
    np.testing.assert_allclose(numpy(model.to_inference()(images())), expected["average"], atol=1e-5)


@pytest.mark.parametrize(
    ("fusion", "other"), [("foreground", "background"), ("inverse_background", "foreground"), ("average", None)]
)
def test_a_head_that_the_fusion_does_not_need_is_not_computed(fusion, other):
    names = {layer.name for layer in edge().to_inference(fusion).layers}
    heads = {"foreground_head", "background_head"}
    assert names & heads == heads - {f"{other}_head"}


def multiplications(model):
    """Number of multiplications of all convolutions for one image, from the shapes of kernels and outputs."""
    total, convolution = 0, keras.layers.Conv2D.call

    def counted(layer, inputs):
        nonlocal total
        outputs = convolution(layer, inputs)
        total += int(np.prod(layer.kernel.shape)) * outputs.shape[1] * outputs.shape[2]
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.layers.Conv2D, "call", counted)
        model(np.zeros((1, *model.input.shape[1:]), "float32"))
    return total


def test_the_papers_model_has_the_expected_size_and_cost():
    model = RecNet(backbone_weights=None)
    assert model.count_params() == pytest.approx(55.97e6, rel=1e-3)
    # two operations per multiplication; attention computes scores and one weighted sum per direction
    positions, channels = 48 * 48, 5 * 256
    attention = positions**2 * (512 + 2 * channels)
    assert 2 * (multiplications(model) + attention) == pytest.approx(298e9, rel=0.01)


def test_the_edge_model_has_the_expected_size():
    model = RecNet(
        "efficientnet_lite0", 224, integration_filters=64, key_channels=64, value_channels=64, head_filters=64,
        attention_normalize="each", scale_scores=True, head_stride=4, separable=True, normalization="batch",
    )  # fmt: skip
    assert model.count_params() == 3_355_876


@pytest.mark.parametrize("arguments", [{}, {"normalization": None, "separable": False, "value_channels": 4}])
def test_fit_trains_every_trainable_weight(arguments):
    # with a random backbone, the signal fades over 16 blocks until updates vanish in float32 rounding
    model = edge(**arguments, backbone_weights="imagenet")
    set_gains(model)
    before = [numpy(weight).copy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1.0), SaliencyLoss(), jit_compile=False)
    masks = (np.random.default_rng(1).uniform(size=(2, 64, 64, 1)) > 0.5).astype("float32")
    model.fit(images(), masks, epochs=1, batch_size=2, verbose=0)
    unchanged = [
        weight.path
        for weight, old in zip(model.trainable_weights, before, strict=True)
        # the bias of the target keys shifts all scores of a softmax row equally and has no effect
        if np.array_equal(numpy(weight), old) and "key/bias" not in weight.path
    ]
    assert not unchanged


def test_fit_lowers_the_loss():
    model = edge()
    model.compile(keras.optimizers.Adam(3e-3), SaliencyLoss(), jit_compile=False)
    masks = np.zeros((4, 64, 64, 1), "float32")
    photos = np.random.default_rng(0).integers(0, 100, (4, 64, 64, 3)).astype("float32")
    for index in range(4):
        masks[index, 8 * index : 8 * index + 32, 16:48] = 1
        photos[index] += 150 * masks[index]
    losses = model.fit(photos, masks, epochs=40, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_uint8_and_float_images_give_equal_logits():
    model = edge()
    np.testing.assert_array_equal(numpy(model(images().astype("uint8"))), numpy(model(images())))


def test_weights_fit_every_image_size():
    small, large = edge(64), edge(96)
    large.set_weights(small.get_weights())
    flat = np.full((1, 96, 96, 3), 90.0)
    assert numpy(large(flat)).shape == (1, 96, 96, 2)


@pytest.mark.parametrize("row", TABLE_2)
def test_saving_and_loading_preserves_the_model(row, tmp_path):
    model = edge(**TABLE_2[row][0])
    set_gains(model)
    model.save(tmp_path / "model.keras")
    again = keras_recnet.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(numpy(again(images())), numpy(model(images())))


def test_saving_and_loading_preserves_the_inference_model(tmp_path):
    model = edge().to_inference()
    model.save(tmp_path / "model.keras")
    again = keras_recnet.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again(images())), numpy(model(images())))


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_close_to_float32(precision):
    reference = edge()
    set_gains(reference)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = edge()
    finally:
        keras.config.set_dtype_policy(before)
    model.set_weights(reference.get_weights())
    saliency, expected = (numpy(m.to_inference()(images())) for m in (model, reference))
    assert saliency.dtype == "float32"
    assert np.abs(saliency - expected).mean() < 0.02


@pytest.mark.parametrize(
    ("normalize", "direction"), list(itertools.product(["joint", "each"], ["foreground", "background"]))
)
def test_the_attention_map_of_a_pixel_equals_the_weights_of_the_layer(normalize, direction):
    model = edge(attention_normalize=normalize)
    image = images(1)[0]
    value = model.attention_map(image, (17, 40), direction)
    features = keras.Model(model.input, model.attention_layer.input)(image[None])
    weights = numpy(model.attention_layer.attention_weights(features)[direction])
    np.testing.assert_allclose(value.ravel(), weights[0, 2 * 8 + 5], atol=1e-6)
    assert value.shape == (8, 8)
    if direction == "foreground" or normalize == "each":
        assert value.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("head_stride", "finer"), [(8, []), (4, ["P2"]), (2, ["P2", "P1"])])
def test_tensors_are_available_by_name(head_stride, finer):
    model = edge(head_stride=head_stride)
    head = model.get_layer("foreground_head")
    _, *side_outputs = keras.tree.flatten(head.input)
    assert [next(key for key, value in model.side_outputs.items() if value is x) for x in side_outputs] == [*finer]
    assert model.foreground_features is head.output[1]
    assert model.coarse_logits.shape == (None, 64 // head_stride, 64 // head_stride, 2)
    assert list(model.side_outputs) == list(model.backbone.strides)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: edge(branches="three"),
        lambda: edge(branches="foreground"),
        lambda: edge(head_stride=1),
        lambda: edge(fusion="max"),
        lambda: edge(image_size=60),
        lambda: edge(backbone="unknown"),
        lambda: edge(attention="none"),
        lambda: edge(branches="foreground", attention=None).to_inference("average"),
        lambda: edge().attention_map(np.zeros((32, 32, 3)), (0, 0)),
        lambda: edge().attention_map(np.zeros((64, 64, 3)), (64, 0)),
        lambda: edge().attention_map(np.zeros((64, 64, 3)), (0, 0), "sideways"),
        lambda: edge(attention=None).attention_map(np.zeros((64, 64, 3)), (0, 0)),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
