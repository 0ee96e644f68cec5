import itertools
import math

import keras
import numpy as np
import pytest

from keras_recnet.losses import SaliencyLoss
from keras_recnet.losses import saliency as losses

FUNCTIONS = (
    losses.branch_cross_entropy,
    losses.cooperative,
    losses.dice,
    losses.iou,
    losses.structure_cross_entropy,
    losses.structure_iou,
)


def sample(channels=2, batch=2, size=(5, 6), seed=0, soft=True):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(batch, *size, 1))
    mask = mask if soft else np.round(mask)
    return mask.astype("float32"), rng.normal(size=(batch, *size, channels), scale=3.0).astype("float32")


def value_and_gradient(loss, mask, logits):
    """Value and gradient of a function `(mask, logits) -> scalar`, traced as in training."""
    logits = keras.ops.convert_to_tensor(logits)
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(mask, z)))(logits)
    else:
        import tensorflow as tf

        @tf.function
        def both(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(mask, z)
            return value, tape.gradient(value, z)

        value, gradient = both(logits)
    return np.asarray(value), np.asarray(gradient)


# Reference implementations in float64, pixel by pixel, from the formulas of the papers.


def sigmoid(z):
    return 1.0 / (1.0 + math.exp(-float(z)))


def branches_of(mask, logits):
    """Lists of targets and probabilities, for each branch of one image."""
    targets = [float(m) for m in mask.ravel()]
    result = []
    for channel in range(logits.shape[-1]):
        expected = targets if channel == 0 else [1.0 - m for m in targets]
        result.append((expected, [sigmoid(z) for z in logits[..., channel].ravel()]))
    return result


def entropy(target, probability):
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


def divergence(p, q, epsilon):
    q = min(max(q, epsilon), 1 - epsilon)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def reference_weights(mask):
    """F3Net's weights: the mean over 31×31 pixels with zero padding, then 1 + 5 |mean - mask|."""
    height, width = mask.shape
    weights = np.zeros((height, width))
    for y, x in itertools.product(range(height), range(width)):
        total = 0.0
        for dy, dx in itertools.product(range(-15, 16), repeat=2):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                total += float(mask[y + dy, x + dx])
        weights[y, x] = 1 + 5 * abs(total / 961 - float(mask[y, x]))
    return weights


@pytest.mark.parametrize("pixel_reduction", losses.PIXEL_REDUCTIONS)
@pytest.mark.parametrize("channels", [1, 2])
def test_branch_cross_entropy_equals_the_sum_over_pixels_and_branches(channels, pixel_reduction):
    masks, logits = sample(channels)
    expected = [
        sum(
            entropy(t, p)
            for target, probability in branches_of(*image)
            for t, p in zip(target, probability, strict=True)
        )
        for image in zip(masks, logits, strict=True)
    ]
    expected = np.array(expected) / (30 if pixel_reduction == "mean" else 1)
    np.testing.assert_allclose(losses.branch_cross_entropy(masks, logits, pixel_reduction), expected, rtol=1e-5)


@pytest.mark.parametrize("pixel_reduction", losses.PIXEL_REDUCTIONS)
@pytest.mark.parametrize("channels", [1, 2])
def test_absolute_error_equals_the_sum_over_pixels_and_branches(channels, pixel_reduction):
    masks, logits = sample(channels)
    expected = [
        sum(abs(p - t) for target, probability in branches_of(*image) for t, p in zip(target, probability, strict=True))
        for image in zip(masks, logits, strict=True)
    ]
    expected = np.array(expected) / (30 if pixel_reduction == "mean" else 1)
    np.testing.assert_allclose(losses.absolute_error(masks, logits, pixel_reduction), expected, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-4, 0.05])
@pytest.mark.parametrize("terms", losses.COOPERATIVE_TERMS)
def test_cooperative_equals_two_divergences_per_pixel(terms, epsilon):
    masks, logits = sample()
    expected = []
    for mask, z in zip(masks, logits, strict=True):
        (_, foreground), (_, background) = branches_of(mask, z)
        total = 0.0
        for f, b in zip(foreground, background, strict=True):
            total += 0 if terms == "overlap" else divergence(f, 1 - b, epsilon)
            total += 0 if terms == "match" else divergence(f * b, 0.0, epsilon)
        expected.append(total / 30)
    np.testing.assert_allclose(losses.cooperative(masks, logits, terms, epsilon), expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.cooperative(masks, logits, terms, epsilon, "sum"), 30 * np.array(expected), rtol=1e-5
    )


def test_cooperative_is_zero_where_the_branches_agree_and_large_where_both_claim_a_pixel():
    mask = np.ones((1, 1, 1, 1))
    agree = losses.cooperative(mask, [[[[9.0, -9.0]]]])
    both = losses.cooperative(mask, [[[[120.0, 120.0]]]])
    assert float(agree[0]) == pytest.approx(0.0, abs=1e-3)
    assert float(both[0]) == pytest.approx(-2 * math.log(1e-4), rel=1e-5)  # ln(1 / ε) from each term


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("smooth", [1.0, 0.25])
def test_dice_and_iou_equal_their_fractions(channels, smooth):
    masks, logits = sample(channels)
    dice, iou = [], []
    for image in zip(masks, logits, strict=True):
        d = i = 0.0
        for target, probability in branches_of(*image):
            product = sum(t * p for t, p in zip(target, probability, strict=True))
            total = sum(target) + sum(probability)
            d += 1 - (2 * product + smooth) / (total + smooth)
            i += 1 - (product + smooth) / (total - product + smooth)
        dice.append(d)
        iou.append(i)
    np.testing.assert_allclose(losses.dice(masks, logits, smooth), dice, rtol=1e-5)
    np.testing.assert_allclose(losses.iou(masks, logits, smooth), iou, rtol=1e-5)


def test_structure_weight_equals_a_mean_over_31_pixels():
    mask = np.zeros((40, 37), "float32")
    mask[5:30, 20:] = 1.0
    mask[35, 3] = 0.4
    weights = np.asarray(losses.structure_weight(mask[None, ..., None]))
    np.testing.assert_allclose(weights[0, ..., 0], reference_weights(mask), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_structure_losses_equal_weighted_sums(channels):
    masks, logits = sample(channels, soft=False)
    entropies, ious = [], []
    for mask, z in zip(masks, logits, strict=True):
        weights = reference_weights(mask[..., 0]).ravel()
        e = i = 0.0
        for target, probability in branches_of(mask, z):
            pixels = list(zip(weights, target, probability, strict=True))
            product = sum(w * t * p for w, t, p in pixels)
            total = sum(w * (t + p) for w, t, p in pixels)
            e += sum(w * entropy(t, p) for w, t, p in pixels) / sum(weights)
            i += 1 - (product + 1) / (total - product + 1)
        entropies.append(e)
        ious.append(i)
    np.testing.assert_allclose(losses.structure_cross_entropy(masks, logits), entropies, rtol=1e-5)
    np.testing.assert_allclose(
        losses.structure_cross_entropy(masks, logits, "sum"), 30 * np.array(entropies), rtol=1e-5
    )
    np.testing.assert_allclose(losses.structure_iou(masks, logits), ious, rtol=1e-5)


@pytest.mark.parametrize("cross_entropy", losses.CROSS_ENTROPIES)
@pytest.mark.parametrize("pixel_reduction", losses.PIXEL_REDUCTIONS)
def test_saliency_loss_is_the_weighted_sum_of_its_terms(cross_entropy, pixel_reduction):
    mask, logits = sample()
    loss = SaliencyLoss(0.3, "overlap", cross_entropy, 0.2, 0.5, 0.7, pixel_reduction, 1e-3, 2.0, reduction=None)
    structure = cross_entropy == "structure"
    expected = (
        np.asarray((losses.structure_cross_entropy if structure else losses.branch_cross_entropy)(mask, logits))
        + 0.3 * np.asarray(losses.cooperative(mask, logits, "overlap", 1e-3))
        + 0.2 * np.asarray(losses.absolute_error(mask, logits))
    ) * (30 if pixel_reduction == "sum" else 1)
    expected += 0.5 * np.asarray(losses.dice(mask, logits, 2.0))
    expected += 0.7 * np.asarray((losses.structure_iou if structure else losses.iou)(mask, logits, 2.0))
    np.testing.assert_allclose(loss(mask, logits), expected, rtol=1e-5)


def test_saliency_loss_weights_and_averages_images():
    mask, logits = sample(batch=3)
    each = np.asarray(SaliencyLoss(reduction=None)(mask, logits))
    assert each.shape == (3,)
    assert float(SaliencyLoss()(mask, logits)) == pytest.approx(each.mean(), rel=1e-5)
    weighted = SaliencyLoss()(mask, logits, sample_weight=np.array([1.0, 0.0, 2.0]))
    assert float(weighted) == pytest.approx((each[0] + 2 * each[2]) / 3, rel=1e-5)


EXTREMES = (-120.0, -20.0, -1.0, 0.0, 1.0, 20.0, 120.0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("cross_entropy", losses.CROSS_ENTROPIES)
def test_value_and_gradient_are_finite_at_logits_of_120(cross_entropy, dtype):
    pairs = np.array(list(itertools.product(EXTREMES, repeat=2)), dtype).reshape(1, 7, 7, 2)
    logits = np.repeat(pairs, 3, axis=0)
    mask = np.broadcast_to(np.array([0.0, 0.3, 1.0], dtype).reshape(3, 1, 1, 1), (3, 7, 7, 1))
    weights = {"absolute_weight": 0.5, "dice_weight": 0.5, "iou_weight": 0.5}
    loss = SaliencyLoss(cross_entropy=cross_entropy, **weights, pixel_reduction="sum")
    value, gradient = value_and_gradient(loss, mask, logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert gradient.dtype == dtype


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_the_gradient_of_the_cross_entropy_is_probability_minus_target(target):
    logits = np.array(list(itertools.product(EXTREMES, repeat=2)), "float32").reshape(1, 7, 7, 2)
    mask = np.full((1, 7, 7, 1), target, "float32")
    _, gradient = value_and_gradient(lambda m, z: losses.branch_cross_entropy(m, z, "sum")[0], mask, logits)
    probability = np.vectorize(sigmoid)(logits)
    np.testing.assert_allclose(gradient, probability - [target, 1 - target], atol=1e-6)


@pytest.mark.parametrize("terms", losses.COOPERATIVE_TERMS)
def test_the_gradient_of_the_cooperative_loss_equals_finite_differences(terms):
    mask, logits = sample(batch=1, size=(2, 2))
    _, gradient = value_and_gradient(lambda m, z: losses.cooperative(m, z, terms, 1e-4, "sum")[0], mask, logits)

    def total(z):
        (_, foreground), (_, background) = branches_of(mask[0], z[0])
        pairs = list(zip(foreground, background, strict=True))
        match = sum(divergence(f, 1 - b, 1e-4) for f, b in pairs)
        overlap = sum(divergence(f * b, 0.0, 1e-4) for f, b in pairs)
        return {"match": match, "overlap": overlap, "both": match + overlap}[terms]

    expected = np.zeros_like(gradient)
    for index in np.ndindex(logits.shape):
        step = np.zeros(logits.shape)
        step[index] = 1e-5
        expected[index] = (total(logits + step) - total(logits - step)) / 2e-5
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_one_channel_requires_a_cooperative_weight_of_0():
    mask, logits = sample(channels=1)
    loss = SaliencyLoss(cooperative_weight=0, dice_weight=0.5, reduction=None)
    expected = np.asarray(losses.branch_cross_entropy(mask, logits)) + 0.5 * np.asarray(losses.dice(mask, logits))
    np.testing.assert_allclose(loss(mask, logits), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"set its weight to 0.*Received"):
        SaliencyLoss()(mask, logits)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 4, 4), (2, 4, 4, 2)],
        [(2, 4, 4, 1), (2, 4, 4)],
        [(2, 4, 4, 2), (2, 4, 4, 2)],
        [(2, 4, 4, 1), (2, 4, 4, 3)],
        [(2, 4, 4, 1), (2, 2, 2, 2)],
        [(1, 4, 4, 1), (2, 4, 4, 2)],
    ],
)
def test_shape_errors_end_with_the_received_shapes(function, shapes):
    with pytest.raises(ValueError, match="Received") as caught:
        function(np.zeros(shapes[0], "float32"), np.zeros(shapes[1], "float32"))
    assert str(caught.value).endswith(f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}")


@pytest.mark.parametrize(
    "arguments",
    [
        {"cooperative_terms": "first"},
        {"cross_entropy": "weighted"},
        {"pixel_reduction": "none"},
        {"epsilon": 0.0},
        {"epsilon": 0.5},
        {"smooth": 0.0},
        {"cooperative_weight": -1.0},
        {"dice_weight": float("nan")},
        {"iou_weight": float("inf")},
    ],
)
def test_argument_errors_end_with_the_received_value(arguments):
    with pytest.raises(ValueError, match="Received"):
        SaliencyLoss(**arguments)


def test_a_compiled_model_trains_and_is_loaded_with_its_loss(tmp_path):
    keras.utils.set_random_seed(0)
    mask, _ = sample(size=(8, 8), soft=False)
    images = np.concatenate([mask, 1 - mask, mask], -1)
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    loss = SaliencyLoss(0.1, "match", "structure", 0.5, 0.25)
    model.compile(keras.optimizers.SGD(1.0), loss)
    history = model.fit(images, mask, epochs=4, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    assert loaded.evaluate(images, mask, verbose=0) == pytest.approx(model.evaluate(images, mask, verbose=0), rel=1e-6)


def test_a_model_trains_in_mixed_precision():
    mask, _ = sample(size=(8, 8), soft=False)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, dtype="mixed_float16")(inputs))
    assert model.output.dtype == "float16"
    model.compile(keras.optimizers.SGD(0.5), SaliencyLoss(pixel_reduction="sum"))
    loss = model.train_on_batch(mask, mask)
    assert np.isfinite(loss)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
