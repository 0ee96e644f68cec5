import functools
import itertools
import json

import h5py
import keras
import numpy as np
import pytest

import keras_recnet
from keras_recnet import presets
from keras_recnet.errors import PresetError
from keras_recnet.losses import CoPerceptualLoss, CoSaliencyLoss
from keras_recnet.metrics import SaliencyMAE
from keras_recnet.models import RCAUNet, RecNet

SIZE = 64
# Tracing or compiling takes longer than these trainings last, but JAX without it is slower still.
QUICKLY = {"run_eagerly": True, "jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
RECNET = {
    "integration_filters": 4,
    "key_channels": 4,
    "attention_normalize": "each",
    "scale_scores": True,
    "head_filters": 4,
    "head_stride": 4,
    "separable": True,
    "normalization": "batch",
    "fusion": "average",
}
EDGE = {"channels": 6, "decoder_filters": (6, 4), "separable": True, "update_bias": 1.5}
PAPER = {"decoder_filters": (6, 4, 4, 4)}
UNITS = ("rcau", "gru", "mean", None)


@functools.cache
def recnet(**arguments):
    keras.utils.set_random_seed(1)
    model = RecNet("tiny", SIZE, **{**RECNET, **arguments})
    for gain in ("alpha", "beta"):
        if hasattr(model.attention_layer, gain):
            getattr(model.attention_layer, gain).assign(0.5)
    # heads start near zero; as a trained one, these shall say something
    kernel = model.get_layer("foreground_head").logits.kernel
    kernel.assign(50 * kernel)
    return model


def edge(**arguments):
    """The edge version with all of its new part at work: the last convolution of the decoder starts at zero."""
    keras.utils.set_random_seed(0)
    model = RCAUNet.from_recnet(recnet(), SIZE, **{**EDGE, **arguments})
    residual = model.decoder.get_layer("residual")
    residual.kernel.assign(np.random.default_rng(0).normal(size=residual.kernel.shape, scale=0.1))
    return model


@functools.cache
def unchanged(unit="rcau"):
    """An `edge` that no test trains."""
    return edge(recurrent_unit=unit)


def groups(batch=2, images=3, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (batch, images, SIZE, SIZE, 3)).astype("float32")
    mask = np.ones((batch, images), "bool")
    if batch > 1 and images > 1:
        mask[1, 1] = False
    return {"images": x, "mask": mask}


def masks(batch=2, images=3):
    result = np.zeros((batch, images, SIZE, SIZE, 1), "float32")
    result[:, :, 16:48, 8:32] = 1
    return result


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def test_the_papers_model_has_its_size():
    model = RCAUNet(backbone_weights=None)
    assert (model.name, model.output.shape) == ("rcaunet", (None, None, 224, 224, 1))
    assert model.encoder.output["x"].shape == (None, 14, 14, 512)
    vgg = 14_714_688
    single = 3 * (9 * 512 * 512 + 512)
    unit = 2 * 512**2 + 2 * 196**2 + 512**2
    widths = (256, 256, 128, 64, 32)
    merged = 9 * 1024 * 256 + 256
    decoder = sum(9 * a * b + b + 16 * b * b + b for a, b in itertools.pairwise(widths)) + 33
    assert model.count_params() == vgg + single + unit + merged + decoder == 27_387_457


def test_the_papers_model_in_small_trains_whole():
    keras.utils.set_random_seed(0)
    model = RCAUNet("vgg16", 32, backbone_weights=None, **PAPER)
    assert model.pretrained.trainable
    x = {"images": np.random.default_rng(0).uniform(0, 255, (1, 2, 32, 32, 3)), "mask": np.ones((1, 2), "bool")}
    loss = CoSaliencyLoss(co_perceptual=CoPerceptualLoss(weights=None))
    model.compile(keras.optimizers.SGD(1e-2), loss, jit_compile="jit_compile" not in QUICKLY)
    before = [numpy(weight) for weight in model.backbone.trainable_weights]
    model.fit(x, np.ones((1, 2, 32, 32, 1)), verbose=0)
    moved = [not np.array_equal(numpy(w), old) for w, old in zip(model.backbone.trainable_weights, before, strict=True)]
    assert all(moved)
    assert model.count_params() == RCAUNet.from_config(model.get_config()).count_params()


@pytest.mark.parametrize("unit", UNITS)
def test_the_papers_decoder_takes_every_unit_and_group(unit):
    model = RCAUNet("tiny", (32, 64), backbone_weights=None, recurrent_unit=unit, channels=4, **PAPER)
    for images in (1, 4):
        x = {"images": np.zeros((1, images, 32, 64, 3)), "mask": np.ones((1, images), "bool")}
        assert model(x).shape == (1, images, 32, 64, 1)


@pytest.mark.parametrize("arguments", [{}, {"attention": None}, {"attention": "background"}, {"head_stride": 2}])
def test_the_edge_version_starts_as_recnets_foreground(arguments):
    source = recnet(**arguments)
    model = RCAUNet.from_recnet(source, SIZE, **EDGE)
    x = groups()
    logits = numpy(model(x)).reshape(6, SIZE, SIZE, 1)
    np.testing.assert_allclose(logits, numpy(source(x["images"].reshape(6, SIZE, SIZE, 3)))[..., :1], atol=1e-5)
    assert np.abs(logits).max() > 1e-2
    names = [weight.path for weight in model.weights]
    assert not [name for name in names if "background_head" in name or "foreground_value" in name]


def test_the_foreground_gate_weights_the_groups_features():
    model = edge(foreground_gate=True)
    projection, rng = model.encoder.get_layer("projection"), np.random.default_rng(1)
    features = {name: rng.normal(size=(1, *x.shape[1:])).astype("float32") for name, x in projection.input.items()}
    assert features["foreground"].shape == (1, SIZE // 8, SIZE // 8, 20)
    ungated = keras.Model(projection.input, projection.get_layer("reduced").output)
    kernel, bias = (numpy(weight).astype("float64") for weight in projection.get_layer("foreground_gate").weights)
    averaged = features["foreground"][0].astype("float64").reshape(4, 2, 4, 2, 20).mean(axis=(1, 3))
    gate = sigmoid(averaged @ kernel[0, 0] + bias)
    np.testing.assert_allclose(numpy(projection(features))[0], numpy(ungated(features))[0] * gate, atol=1e-5)


def test_group_attention_compares_the_image_with_its_group():
    model = edge(group_attention=True)
    decoder, rng = model.decoder, np.random.default_rng(1)
    for name in ("comparison", "weights"):
        bias = decoder.get_layer(name).bias
        bias.assign(rng.normal(size=bias.shape))
    # channels of different means, or normalizing them would enlarge float32's rounding
    of_channels = rng.uniform(0, 2, (2, 1, 1, 1, 6))
    state, x = (of_channels * rng.uniform(0, 2, (2, 1, 4, 4, 6))).astype("float32")
    inputs = {name: np.zeros((1, *tensor.shape[1:]), "float32") for name, tensor in decoder.input.items()}
    inputs |= {"x": x, "state": state}
    weighted, single = (
        keras.Model(decoder.input, decoder.get_layer(name).output) for name in ("weighted_single", "single_3")
    )

    def dense(name, vector):
        kernel, bias = (numpy(weight).astype("float64") for weight in decoder.get_layer(name).weights)
        return vector @ kernel[0, 0] + bias

    means = [array[0].astype("float64").mean(axis=(0, 1)) for array in (x, state)]
    normalized = [(mean - mean.mean()) / np.sqrt(mean.var() + 1e-6) for mean in means]
    product = dense("compared", normalized[0]) * dense("compared", normalized[1])
    weights = sigmoid(dense("weights", np.maximum(dense("comparison", product), 0)))
    assert weights.std() > 0.1
    np.testing.assert_allclose(numpy(weighted(inputs))[0], numpy(single(inputs))[0] * weights, atol=1e-5)
    # where the object is makes no difference to the weights
    elsewhere = {**inputs, "state": state[:, ::-1]}
    np.testing.assert_allclose(numpy(weighted(elsewhere)), numpy(weighted(inputs)), atol=1e-5)
    # nor does how large it is, but for the normalisation's epsilon
    smaller = {**inputs, "state": state / 3}
    np.testing.assert_allclose(numpy(weighted(smaller)), numpy(weighted(inputs)), atol=1e-4)


@pytest.mark.parametrize("unit", ["rcau", "mean"])
def test_the_group_gate_multiplies_the_map_by_how_far_the_image_agrees(unit):
    model, x = edge(recurrent_unit=unit, group_gate=True), groups(batch=1, images=4)
    descriptor = model.encoder.get_layer("projection").get_layer("descriptor")
    pretrained = {name: numpy(value) for name, value in model.pretrained(x["images"][0]).items()}
    # RecNet's own map, averaged to the grid of the coarsest side-output
    own = sigmoid(numpy(recnet()(x["images"][0]))[..., :1]).reshape(4, 2, 32, 2, 32, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(pretrained["salient"], own, atol=0.02)
    coarsest = min((value for name, value in pretrained.items() if name != "salient"), key=lambda value: value.shape[1])
    assert coarsest.shape[1:3] == own.shape[1:3]
    model.adapt([model.pretrained(groups(seed=seed)["images"][0]) for seed in range(5)])
    u = numpy(descriptor([coarsest, pretrained["salient"]])).astype("float64")
    cosine = [of_image @ u.mean(axis=0) / np.linalg.norm(u.mean(axis=0)) for of_image in u]
    gate = sigmoid(10 * (np.array(cosine) - np.sqrt(3) / 4) - 1)
    assert gate.std() > 0.01
    decoder = model.decoder
    ungated = keras.Model(decoder.input, decoder.get_layer("enlarged").output)
    features = model.encoder(x["images"][0])
    state = [model.cell.start(features["x"][:1])]
    for image in features["x"]:
        _, state = model.cell(image[None], state)
    maps = sigmoid(numpy(ungated({**features, "state": keras.ops.repeat(state[0], 4, axis=0)})))
    np.testing.assert_allclose(sigmoid(numpy(model(x)))[0], maps * gate[:, None, None, None], atol=1e-4)


def test_the_group_gate_leaves_padding_and_the_order_alone():
    model, x = edge(recurrent_unit="mean", group_gate=True), groups()
    together = numpy(model(x))
    alone = numpy(model({"images": x["images"][1:, [2, 0]], "mask": np.ones((1, 2), "bool")}))
    np.testing.assert_allclose(together[1, [2, 0]], alone[0], atol=1e-4)


@pytest.mark.parametrize("option", ["foreground_gate", "group_attention", "group_gate"])
def test_the_options_of_the_group_branch_stay_after_saving(option, tmp_path):
    model = edge(**{option: True})
    assert model.count_params() > unchanged().count_params()
    model.save_to_preset(tmp_path)
    x = groups()
    again = RCAUNet.from_preset(tmp_path)
    assert again.get_config() == model.get_config()
    np.testing.assert_allclose(numpy(again(x)), numpy(model(x)), atol=0.02)
    from_features = model.from_features()
    kept = {
        name: numpy(value).reshape(2, 3, *value.shape[1:])
        for name, value in model.pretrained(x["images"].reshape(6, SIZE, SIZE, 3)).items()
    }
    np.testing.assert_allclose(numpy(from_features({**kept, "mask": x["mask"]}))[0], numpy(model(x))[0], atol=1e-4)


def test_the_shipped_preset_is_a_start_that_fits_in_8_mb(tmp_path):
    model = RCAUNet.from_recnet("recnet_lite0")
    assert model.image_size == (224, 224)
    assert model.cell.state_size[0] == (14, 14, 192)
    model.save_to_preset(tmp_path)
    assert (tmp_path / presets.WEIGHTS).stat().st_size < 8e6


@pytest.mark.parametrize("unit", UNITS)
def test_a_padded_batch_equals_its_short_groups(unit):
    model = unchanged(unit)
    x = groups()
    together = numpy(model(x))
    alone = numpy(model({"images": x["images"][1:, [0, 2]], "mask": np.ones((1, 2), "bool")}))
    np.testing.assert_allclose(together[1, [0, 2]], alone[0], atol=1e-5)
    changed = {"images": np.where(x["mask"][..., None, None, None], x["images"], 0), "mask": x["mask"]}
    np.testing.assert_allclose(numpy(model(changed))[x["mask"]], together[x["mask"]], atol=1e-5)


def test_the_group_matters_unless_there_is_no_group_branch():
    x = groups(batch=1)
    for unit in UNITS:
        model = unchanged(unit)
        whole = numpy(model(x))[0, 0]
        alone = numpy(model({"images": x["images"][:, :1], "mask": x["mask"][:, :1]}))[0, 0]
        assert (np.abs(whole - alone).max() > 1e-4) == (unit is not None)


def test_the_order_does_not_matter_to_the_mean():
    x = groups(batch=1)
    turned = {"images": x["images"][:, ::-1], "mask": x["mask"]}
    mean, rcau = unchanged("mean"), unchanged("rcau")
    np.testing.assert_allclose(numpy(mean(turned))[:, ::-1], numpy(mean(x)), atol=1e-5)
    assert np.abs(numpy(rcau(turned))[:, ::-1] - numpy(rcau(x))).max() > 1e-4


def test_gradients_reach_every_trainable_weight_and_no_frozen_one():
    model = edge(
        freeze_pretrained=True,
        normalization="group",
        use_bias=True,
        foreground_gate=True,
        group_attention=True,
        group_gate=True,
    )
    assert not model.pretrained.trainable_weights
    before = {weight.path: numpy(weight) for weight in model.weights}
    model.compile(keras.optimizers.SGD(1.0), CoSaliencyLoss(), jit_compile="jit_compile" not in QUICKLY)
    model.fit(groups(), masks(), verbose=0)
    trained = {weight.path for weight in model.trainable_weights}
    for weight in model.weights:
        assert np.array_equal(numpy(weight), before[weight.path]) == (weight.path not in trained), weight.path


def test_batch_normalization_never_sees_a_group_as_its_batch():
    model = edge(freeze_pretrained=False)
    x = groups()
    np.testing.assert_array_equal(numpy(model(x, training=True)), numpy(model(x, training=False)))
    of_recnet = numpy(recnet()(x["images"][0]))
    statistics = [weight for weight in model.weights if "moving" in weight.path]
    before = [numpy(weight) for weight in statistics]
    model.compile(keras.optimizers.SGD(1e-3), CoSaliencyLoss(), **QUICKLY)
    model.fit(x, masks(), verbose=0)
    assert model.pretrained.trainable_weights
    np.testing.assert_array_equal(numpy(recnet()(x["images"][0])), of_recnet)  # which training leaves alone
    for weight, old in zip(statistics, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), old)


def test_fit_learns_which_images_are_distractors():
    model = edge(freeze_pretrained=True)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 60, (2, 4, SIZE, SIZE, 3)).astype("float32"), masks(2, 4)
    x[..., :1] += 150 * y
    y[:, 3] = 0
    x[:, 3] = x[:, 3, :, :, ::-1]
    mask = np.ones((2, 4), "bool")
    model.compile(keras.optimizers.Adam(3e-2), CoSaliencyLoss(dice_weight=0.5), **QUICKLY)
    losses = model.fit({"images": x, "mask": mask}, y, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_the_trainable_part_learns_from_kept_features():
    model = edge(freeze_pretrained=True)
    x = groups()
    trained = model.from_features()
    features = {name: numpy(y) for name, y in model.pretrained(x["images"].reshape(6, SIZE, SIZE, 3)).items()}
    features = {name: array.reshape(2, 3, *array.shape[1:]) for name, array in features.items()} | {"mask": x["mask"]}
    np.testing.assert_allclose(numpy(trained(features)), numpy(model(x)), atol=1e-5)
    before = numpy(model(x))
    trained.compile(keras.optimizers.Adam(1e-2), CoSaliencyLoss(), **QUICKLY)
    trained.fit(features, masks(), verbose=0)
    assert np.abs(numpy(model(x)) - before).max() > 1e-3
    np.testing.assert_allclose(numpy(trained(features)), numpy(model(x)), atol=1e-5)


def test_the_loss_is_that_of_the_images_that_are_no_padding():
    model = edge()
    x, y = groups(), masks()
    logits = numpy(model(x)).astype("float64")
    entropy = -(y * np.log(sigmoid(logits)) + (1 - y) * np.log(sigmoid(-logits))).mean(axis=(2, 3, 4))
    weight = np.array([[1.0, 2.0, 0.5], [3.0, 1.0, 1.0]])
    for loss in (CoSaliencyLoss(), keras.losses.BinaryCrossentropy(True, reduction="mean_with_sample_weight")):
        model.compile("sgd", loss, weighted_metrics=[SaliencyMAE()], **QUICKLY)
        result = model.evaluate(x, y, verbose=0, return_dict=True)
        assert result["loss"] == pytest.approx(entropy[x["mask"]].mean(), rel=1e-4)
        error = np.abs(sigmoid(logits) - y).mean(axis=(2, 3, 4))
        assert result["mae"] == pytest.approx(error[x["mask"]].mean(), rel=1e-4)
        result = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
        effective = weight * x["mask"]
        assert result["loss"] == pytest.approx((effective * entropy).sum() / effective.sum(), rel=1e-4)
        result = model.evaluate(x, y, sample_weight=np.array([1.0, 0.0]), verbose=0, return_dict=True)
        assert result["loss"] == pytest.approx(entropy[0].mean(), rel=1e-4)


def bright(x):
    return [x[:, ::8, ::8] / 255]


def test_the_co_perceptual_loss_takes_part_from_its_epoch_on():
    model, x, y = edge(), groups(), masks()
    values = []

    class Spy(CoPerceptualLoss):
        def __call__(self, *arguments):
            values.append(arguments)
            return 1000.0 + 0 * super().__call__(*arguments)

    loss = CoSaliencyLoss(co_perceptual=Spy(features=bright), co_perceptual_weight=1.0, start_epoch=2)
    model.compile(keras.optimizers.SGD(0.0), loss, **QUICKLY)
    history = model.fit(x, y, epochs=3, verbose=0, validation_data=(x, y)).history
    assert history["loss"][0] == pytest.approx(history["loss"][1], rel=1e-5)
    assert history["loss"][2] == pytest.approx(history["loss"][0] + 1000, rel=1e-5)
    assert history["val_loss"][2] == pytest.approx(history["loss"][0], rel=1e-4)
    before = [array.copy() for array in map(numpy, model.trainable_weights)]
    plain = CoSaliencyLoss(co_perceptual=CoPerceptualLoss(features=bright), co_perceptual_weight=1e4)
    model.compile(keras.optimizers.SGD(1e-3), plain, **QUICKLY)
    weights = len(model.weights)
    model.fit(x, y, verbose=0)
    assert len(model.weights) == weights
    assert not all(np.array_equal(numpy(w), old) for w, old in zip(model.trainable_weights, before, strict=True))


@pytest.mark.parametrize("unit", UNITS)
def test_the_same_after_saving_and_loading(unit, tmp_path):
    model, x = unchanged(unit), groups()
    model.save(tmp_path / "model.keras")
    again = keras_recnet.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))
    inference = model.to_inference()
    saliency = numpy(inference(x))
    np.testing.assert_allclose(saliency, sigmoid(numpy(model(x))), atol=1e-6)
    inference.save(tmp_path / "inference.keras")
    np.testing.assert_array_equal(numpy(keras_recnet.load_model(tmp_path / "inference.keras")(x)), saliency)


def test_a_compiled_model_keeps_its_loss(tmp_path):
    model = edge()
    loss = CoSaliencyLoss(dice_weight=0.5, co_perceptual=CoPerceptualLoss(image_size=32, weights=None), start_epoch=1)
    model.compile("adam", loss, **QUICKLY)
    model.fit(groups(), masks(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras_recnet.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == loss.get_config()


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("unit", UNITS)
def test_mixed_precision_stays_near_float32(unit, precision):
    reference = unchanged(unit)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        mixed = RCAUNet.from_config(reference.get_config())
    finally:
        keras.config.set_dtype_policy(before)
    mixed.set_weights(reference.get_weights())
    x = groups(images=5)
    saliency, expected = (numpy(model.to_inference()(x)) for model in (mixed, reference))
    assert saliency.dtype == "float32"
    assert expected.std() > 0.01
    assert np.abs(saliency - expected)[x["mask"]].mean() < 0.2 * expected.std()


@pytest.mark.parametrize("unit", ["rcau", "mean", None])
def test_a_preset_gives_the_model_back(unit, tmp_path):
    model = edge(recurrent_unit=unit)
    if unit == "rcau":
        model.compile("adam", CoSaliencyLoss(co_perceptual=CoPerceptualLoss(features=bright)), **QUICKLY)
        model.fit(groups(), masks(), verbose=0)
    model.save_to_preset(tmp_path, remark="a test")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["class"], config["task"], config["remark"]) == ("RCAUNet", "cosaliency", "a test")
    with h5py.File(tmp_path / presets.WEIGHTS) as file:
        arrays = []
        file.visititems(lambda name, item: arrays.append((name, item)) if isinstance(item, h5py.Dataset) else None)
        assert len(arrays) == len(model.weights)
        assert sum(item.size for _, item in arrays) == model.count_params()
    again = RCAUNet.from_preset(tmp_path)
    assert again.get_config() == model.get_config()
    np.testing.assert_allclose(numpy(again(groups())), numpy(model(groups())), atol=0.05)


def test_another_image_size_does_not_fit_the_spatial_map(tmp_path):
    unchanged().save_to_preset(tmp_path / "rcau")
    with pytest.raises(PresetError, match=r"binds this network to 64×64; leave the size out\. Received: 96×96"):
        RCAUNet.from_preset(tmp_path / "rcau", image_size=96)
    edge(use_spatial_attention=False).save_to_preset(tmp_path / "channels")
    assert RCAUNet.from_preset(tmp_path / "channels", image_size=96).image_size == (96, 96)


@pytest.mark.parametrize("option", ["use_reset_gate", "use_spatial_attention", "use_channel_attention"])
def test_every_gate_is_an_argument(option):
    ablated = edge(**{option: False})
    assert ablated.count_params() < unchanged().count_params()
    assert getattr(ablated.cell, option) is False


@pytest.mark.parametrize(
    "bad",
    [
        lambda: edge(recurrent_unit="lstm"),
        lambda: edge(normalization="batch"),
        lambda: edge(decoder_filters=(8, 8, 8)),
        lambda: edge(recurrent_unit=None, group_attention=True),
        lambda: edge(recurrent_unit=None, group_gate=True),
        lambda: unchanged().adapt([]),
        lambda: edge(group_gate=True).adapt([]),
        lambda: edge(group_gate=True).adapt(np.zeros((2, SIZE, SIZE, 3))),
        lambda: RCAUNet("vgg16", 32, backbone_weights=None, foreground_gate=True, **PAPER),
        lambda: RCAUNet("vgg16", 32, backbone_weights=None, group_gate=True, **PAPER),
        lambda: RCAUNet("vgg16", 32, backbone_weights=None, decoder_filters=(8, 8)),
        lambda: RCAUNet("resnet50", 64, backbone_weights=None),
        lambda: RCAUNet("tiny", 60, backbone_weights=None),
        lambda: RCAUNet("vgg16", 32, backbone_weights=None, **PAPER).init_from_recnet(recnet()),
        lambda: unchanged().init_from_recnet(recnet(head_filters=8)),
    ],
)
def test_says_what_it_expected_and_what_it_got(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()


def test_kept_features_have_no_images_to_compare():
    model = edge(freeze_pretrained=True)
    trained, x = model.from_features(), groups()
    features = {
        name: np.zeros((2, 3, *tensor.shape[1:]), "float32") for name, tensor in model.pretrained.output.items()
    }
    trained.compile("sgd", CoSaliencyLoss(co_perceptual=CoPerceptualLoss(features=bright)), **QUICKLY)
    with pytest.raises(ValueError, match="Received"):
        trained.fit({**features, "mask": x["mask"]}, masks(), verbose=0)
