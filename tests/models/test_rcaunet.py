import functools
import itertools
import json
import os
import re
import subprocess
import sys

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
# For such short training runs, eager execution is faster than tracing or compiling, except on JAX.
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
EDGE = {"channels": 6, "embedding_channels": 5, "decoder_filters": (6, 4)}
PAPER = {"decoder_filters": (6, 4, 4, 4)}
UNITS = ("rcau", "gru", "mean", None)
VERSIONS = ("edge", *UNITS)


@functools.cache
def recnet(**arguments):
    keras.utils.set_random_seed(1)
    model = RecNet("tiny", SIZE, **{**RECNET, **arguments})
    for gain in ("alpha", "beta"):
        if hasattr(model.attention_layer, gain):
            getattr(model.attention_layer, gain).assign(0.5)
    # initial logits are close to zero; larger ones make differences visible
    kernel = model.get_layer("foreground_head").logits.kernel
    kernel.assign(50 * kernel)
    return model


def edge(**arguments):
    """The edge version with a nonzero last convolution, which would otherwise hide the group branch."""
    keras.utils.set_random_seed(0)
    model = RCAUNet.from_recnet(recnet(), SIZE, **{**EDGE, **arguments})
    (kernel,) = (weight for weight in model.weights if "gate_and_residual/kernel" in weight.path)
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    return model


def paper(unit="rcau", **arguments):
    """The paper's version with a tiny backbone, and larger logits than a fresh network has."""
    keras.utils.set_random_seed(0)
    options = {**PAPER, "channels": 4, "update_bias": 1.5, **arguments}
    model = RCAUNet("tiny", SIZE, backbone_weights=None, recurrent_unit=unit, **options)
    (kernel,) = (weight for weight in model.weights if "pixel_logits/kernel" in weight.path)
    kernel.assign(kernel / numpy(model(groups())).std())
    return model


@functools.cache
def shared(version="edge"):
    """A shared model that tests must not train: `"edge"`, or the paper's version with a recurrent unit."""
    return edge() if version == "edge" else paper(version)


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


def features_of(model, x):
    """Inputs of `model.from_features()`."""
    features = model.pretrained(x["images"].reshape(6, SIZE, SIZE, 3))
    return {name: numpy(y).reshape(2, 3, *y.shape[1:]) for name, y in features.items()} | {"mask": x["mask"]}


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def test_the_papers_model_has_the_expected_size():
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


def test_a_small_model_of_the_paper_trains_all_weights():
    keras.utils.set_random_seed(0)
    model = RCAUNet("vgg16", 32, backbone_weights=None, **PAPER)
    assert model.pretrained.trainable
    x = {"images": np.random.default_rng(0).uniform(0, 255, (1, 2, 32, 32, 3)), "mask": np.ones((1, 2), "bool")}
    loss = CoSaliencyLoss(co_perceptual=CoPerceptualLoss(weights=None))
    model.compile(keras.optimizers.SGD(1e-2), loss, jit_compile="jit_compile" not in QUICKLY)
    before = [numpy(weight) for weight in model.backbone.trainable_weights]
    model.fit(x, np.ones((1, 2, 32, 32, 1)), verbose=0)
    for weight, old in zip(model.backbone.trainable_weights, before, strict=True):
        assert not np.array_equal(numpy(weight), old)
    assert model.count_params() == RCAUNet.from_config(model.get_config()).count_params()


@pytest.mark.parametrize("unit", UNITS)
def test_the_papers_decoder_supports_every_unit_and_group_size(unit):
    model = RCAUNet("tiny", (32, 64), backbone_weights=None, recurrent_unit=unit, channels=4, **PAPER)
    for images in (1, 4):
        x = {"images": np.zeros((1, images, 32, 64, 3)), "mask": np.ones((1, images), "bool")}
        assert model(x).shape == (1, images, 32, 64, 1)


@pytest.mark.parametrize(
    "arguments", [{}, {"attention": None}, {"fusion": "subtract"}, {"fusion": "foreground"}, {"head_stride": 2}]
)
def test_the_initial_map_of_the_edge_version_is_recnets(arguments):
    source = recnet(**arguments)
    model = RCAUNet.from_recnet(source, SIZE, **EDGE)
    x = groups()
    saliency = numpy(model.to_inference()(x)).reshape(6, SIZE, SIZE, 1)
    expected = numpy(source.to_inference()(x["images"].reshape(6, SIZE, SIZE, 3)))
    np.testing.assert_allclose(saliency, expected, atol=1.1e-4)
    assert expected.std() > 1e-3


def test_the_map_of_a_group_of_one_is_recnets_after_training():
    model, x = shared("edge"), groups(batch=3, images=1)
    expected = numpy(recnet().to_inference()(x["images"][:, 0]))
    np.testing.assert_allclose(numpy(model.to_inference()(x))[:, 0], expected, atol=1.1e-4)


def test_the_edge_version_of_the_shipped_preset_is_smaller_than_8_mb(tmp_path):
    model = RCAUNet.from_recnet("recnet_lite0")
    assert model.image_size == (320, 320)
    assert {name: tensor.shape[1:] for name, tensor in model.step.output.items()} == {
        "consensus": (64,),
        "consensus_moments": (64, 64),
        "count": (1,),
    }
    model.save_to_preset(tmp_path)
    assert (tmp_path / presets.WEIGHTS).stat().st_size < 8e6


@pytest.mark.parametrize("version", VERSIONS)
def test_a_padded_batch_equals_its_short_groups(version):
    model = shared(version)
    x = groups()
    together = numpy(model(x))
    alone = numpy(model({"images": x["images"][1:, [0, 2]], "mask": np.ones((1, 2), "bool")}))
    np.testing.assert_allclose(together[1, [0, 2]], alone[0], atol=1e-5)
    changed = {"images": np.where(x["mask"][..., None, None, None], x["images"], 0), "mask": x["mask"]}
    np.testing.assert_allclose(numpy(model(changed))[x["mask"]], together[x["mask"]], atol=1e-5)


def test_other_images_change_the_map_only_with_a_group_branch():
    x = groups(batch=1)
    for version in VERSIONS:
        model = shared(version)
        whole = numpy(model(x))[0, 0]
        alone = numpy(model({"images": x["images"][:, :1], "mask": x["mask"][:, :1]}))[0, 0]
        assert (np.abs(whole - alone).max() > 1e-4) == (version is not None)


@pytest.mark.parametrize("version", VERSIONS)
def test_only_recurrent_units_depend_on_the_order(version):
    x, model = groups(batch=1), shared(version)
    reversed_group = {"images": x["images"][:, ::-1], "mask": x["mask"]}
    difference = np.abs(numpy(model(reversed_group))[:, ::-1] - numpy(model(x))).max()
    assert (difference > 1e-4) == (version in ("rcau", "gru"))


@pytest.mark.parametrize("build", [edge, paper])
def test_gradients_reach_every_trainable_weight_and_no_frozen_one(build):
    model = build(freeze_pretrained=True)
    assert not model.pretrained.trainable_weights
    before = {weight.path: numpy(weight) for weight in model.weights}
    # gradients fade in a random network without normalization; smaller steps would vanish in float32 rounding
    model.compile(keras.optimizers.SGD(1e4), CoSaliencyLoss(), jit_compile="jit_compile" not in QUICKLY)
    model.fit(groups(), masks(), verbose=0)
    trained = {weight.path for weight in model.trainable_weights}
    for weight in model.weights:
        assert np.array_equal(numpy(weight), before[weight.path]) == (weight.path not in trained), weight.path


def test_batch_normalization_always_uses_its_stored_statistics():
    model = edge(freeze_pretrained=False)
    x = groups()
    np.testing.assert_array_equal(numpy(model(x, training=True)), numpy(model(x, training=False)))
    recnet_logits = numpy(recnet()(x["images"][0]))
    statistics = [weight for weight in model.weights if "moving" in weight.path]
    before = [numpy(weight) for weight in statistics]
    model.compile(keras.optimizers.SGD(1e-3), CoSaliencyLoss(), **QUICKLY)
    model.fit(x, masks(), verbose=0)
    assert model.pretrained.trainable_weights
    # training does not change the RecNet whose weights were copied
    np.testing.assert_array_equal(numpy(recnet()(x["images"][0])), recnet_logits)
    for weight, old in zip(statistics, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), old)


def test_fit_learns_which_of_two_objects_the_group_has_in_common():
    """Every image shows a red and a blue square; the red one is common to one group, the blue one to the other."""
    keras.utils.set_random_seed(0)
    widths = {"channels": 16, "embedding_channels": 8, "decoder_filters": (16, 16)}
    model = RCAUNet.from_recnet(recnet(), SIZE, **widths, freeze_pretrained=False)
    random = np.random.default_rng(0)

    def batch():
        x, y = random.integers(0, 40, (2, 4, SIZE, SIZE, 3)).astype("float32"), np.zeros((2, 4, SIZE, SIZE, 1))
        for group in range(2):
            for image in range(4):
                columns = random.permutation([0, 32])
                shown = (0, 2) if image % 2 == 0 else (2 * group, 1)  # every second image: the common one, and green
                for channel, column in zip(shown, columns, strict=True):
                    x[group, image, 16:48, column : column + 32, channel] = 230
                    y[group, image, 16:48, column : column + 32] = channel == 2 * group
        return {"images": x, "mask": np.ones((2, 4), "bool")}, y

    loss = CoSaliencyLoss(dice_weight=0.5)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile="jit_compile" not in QUICKLY)
    for _ in range(200):
        model.train_on_batch(*batch())
    x, y = batch()
    error = np.abs(numpy(model.to_inference()(x)) - y).mean()
    # the state of the other group
    other = {"images": np.concatenate([x["images"][:, :1], x["images"][::-1, 1:]], axis=1), "mask": x["mask"]}
    wrong = np.abs(numpy(model.to_inference()(other))[:, 0] - y[:, 0]).mean()
    assert error < 0.16
    assert wrong > 1.5 * error


def test_training_on_features_trains_the_model():
    model = edge(freeze_pretrained=True)
    x = groups()
    train_model, features = model.from_features(), features_of(model, x)
    # half of the resolution of the images
    assert train_model.output.shape == (None, None, SIZE // 2, SIZE // 2, 1)
    coarse = numpy(train_model(features))
    fine = numpy(model(x)).reshape(2, 3, SIZE // 2, 2, SIZE // 2, 2).mean(axis=(3, 5))[..., None]
    assert np.abs(sigmoid(coarse) - sigmoid(fine)).mean() < 0.02
    before = numpy(model(x))
    train_model.compile(keras.optimizers.Adam(1e-2), CoSaliencyLoss(), **QUICKLY)
    train_model.fit(features, masks()[:, :, ::2, ::2], verbose=0)
    assert np.abs(numpy(model(x)) - before).max() > 1e-3


def test_training_on_features_of_the_papers_version_has_the_same_logits():
    model, x = paper(freeze_pretrained=True), groups()
    np.testing.assert_allclose(numpy(model.from_features()(features_of(model, x))), numpy(model(x)), atol=1e-5)


def test_padding_does_not_contribute_to_the_loss():
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


def test_the_co_perceptual_loss_is_added_from_its_start_epoch():
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


@pytest.mark.parametrize("version", VERSIONS)
def test_saving_and_loading_preserves_the_model(version, tmp_path):
    model, x = shared(version), groups()
    model.save(tmp_path / "model.keras")
    again = keras_recnet.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))
    inference = model.to_inference()
    saliency = numpy(inference(x))
    np.testing.assert_allclose(saliency, sigmoid(numpy(model(x))), atol=1e-6)
    inference.save(tmp_path / "inference.keras")
    np.testing.assert_array_equal(numpy(keras_recnet.load_model(tmp_path / "inference.keras")(x)), saliency)


def test_a_compiled_model_is_loaded_with_its_loss(tmp_path):
    model = edge()
    loss = CoSaliencyLoss(dice_weight=0.5, co_perceptual=CoPerceptualLoss(image_size=32, weights=None), start_epoch=1)
    model.compile("adam", loss, **QUICKLY)
    model.fit(groups(), masks(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras_recnet.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == loss.get_config()


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_logits_are_float32_in_half_precision(precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = RCAUNet("tiny", SIZE, backbone_weights=None, recnet=RECNET, **EDGE)
        assert model.output.dtype == "float32"
        assert model.from_features().output.dtype == "float32"
        assert keras.backend.standardize_dtype(model(groups()).dtype) == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_a_model_trains_on_two_devices_with_tf_distribute():
    program = """
import numpy as np, tensorflow as tf
from keras_recnet import losses, metrics, models
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = models.RCAUNet("vgg16", 32, backbone_weights=None, decoder_filters=(4, 4, 4, 4))
    model.compile("sgd", losses.CoSaliencyLoss(), weighted_metrics=[metrics.SaliencyMAE()])
images = np.random.default_rng(0).uniform(0, 255, (4, 2, 32, 32, 3))
x, y = {"images": images, "mask": np.array([[True, True]] * 3 + [[True, False]])}, np.ones((4, 2, 32, 32, 1))
mae = model.evaluate(x, y, batch_size=4, verbose=0)[1]
saliency = tf.sigmoid(model(x)).numpy()[x["mask"]]
assert abs(mae - np.mean(1 - saliency)) < 1e-4
loss = model.fit(x, y, batch_size=4, verbose=0).history["loss"]
assert np.isfinite(loss).all()
"""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr


def test_training_with_tensorflow_on_a_cpu_does_not_use_xla():
    # XLA needs minutes to compile the gradients of depthwise convolutions
    on_a_gpu = any(device.startswith("gpu") for device in keras.distribution.list_devices())
    uses_xla = on_a_gpu or keras.backend.backend() != "tensorflow"
    for model in (recnet(), shared(), shared().from_features()):
        model.compile("sgd", "mse")
        assert model.jit_compile is uses_xla


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_mixed_precision_is_close_to_float32(version, precision):
    reference = shared(version)
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


@pytest.mark.parametrize("version", ["edge", "rcau", "mean", None])
def test_a_model_is_restored_from_its_preset(version, tmp_path):
    model = edge() if version == "edge" else paper(version)
    if version == "edge":
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


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"recnet": []}, "arguments.recnet: must be a mapping"),
        ({"recnet": {"head_filters": "4"}}, "arguments.recnet.head_filters: must be of type int"),
        ({"recnet": {"newer": 1}}, "arguments.recnet.newer: unknown key"),
        ({"decoder_filters": 6}, "arguments.decoder_filters: must be of type"),
        ({"decoder_filters": [6, None]}, "arguments.decoder_filters: must be of type"),
        ({"update_bias": "1"}, "arguments.update_bias: must be of type float"),
    ],
)
def test_an_invalid_argument_in_the_configuration_is_named_in_the_error(arguments, key, tmp_path):
    shared().save_to_preset(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["arguments"].update(arguments)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError, match=rf"config\.json: {re.escape(key)}"):
        RCAUNet.from_preset(tmp_path)


def test_a_spatial_map_fits_only_one_image_size(tmp_path):
    shared("rcau").save_to_preset(tmp_path / "rcau")
    with pytest.raises(
        PresetError, match=r"images of 64×64 \(its recurrent unit has a spatial map\)\. Omit the size\. Received: 96×96"
    ):
        RCAUNet.from_preset(tmp_path / "rcau", image_size=96)
    paper(use_spatial_attention=False).save_to_preset(tmp_path / "channels")
    shared("edge").save_to_preset(tmp_path / "edge")
    for folder in ("channels", "edge"):
        assert RCAUNet.from_preset(tmp_path / folder, image_size=96).image_size == (96, 96)


@pytest.mark.parametrize("option", ["use_reset_gate", "use_spatial_attention", "use_channel_attention"])
def test_every_gate_can_be_disabled(option):
    ablated = paper(**{option: False})
    assert ablated.count_params() < shared("rcau").count_params()
    assert getattr(ablated.get_layer("group").cell, option) is False


@pytest.mark.parametrize(
    "bad",
    [
        lambda: paper("lstm"),
        lambda: edge(decoder_filters=(8, 8, 8)),
        lambda: RCAUNet.from_recnet(recnet(branches="foreground", attention=None)),
        lambda: RCAUNet("vgg16", 32, backbone_weights=None, decoder_filters=(8, 8)),
        lambda: RCAUNet("resnet50", 64, backbone_weights=None),
        lambda: RCAUNet("tiny", 60, backbone_weights=None),
        lambda: RCAUNet("vgg16", 32, backbone_weights=None, **PAPER).init_from_recnet(recnet()),
        lambda: shared().init_from_recnet(recnet(head_filters=8)),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()


def test_the_co_perceptual_loss_requires_images():
    model = edge(freeze_pretrained=True)
    train_model, x = model.from_features(), groups()
    features = {
        name: np.zeros((2, 3, *tensor.shape[1:]), "float32") for name, tensor in model.pretrained.output.items()
    }
    train_model.compile("sgd", CoSaliencyLoss(co_perceptual=CoPerceptualLoss(features=bright)), **QUICKLY)
    with pytest.raises(ValueError, match="Received"):
        train_model.fit({**features, "mask": x["mask"]}, masks(), verbose=0)
