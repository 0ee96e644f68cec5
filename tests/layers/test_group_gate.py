import keras
import numpy as np
import pytest

from keras_recnet.layers import GroupGate, SalientDescriptor

IMAGES, GRID, CHANNELS = 3, (2, 3), 4


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def images(seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(1, 2, (IMAGES, *GRID, CHANNELS)).astype("float32")
    return [features, rng.uniform(size=(IMAGES, *GRID, 1)).astype("float32")]


def described(features, saliency, epsilon=1e-3):
    """Weighted means, position by position."""
    means = np.zeros((IMAGES, CHANNELS))
    for n in range(IMAGES):
        weights = 0.0
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                weight = float(saliency[n, row, column, 0]) + epsilon
                means[n] += weight * features[n, row, column].astype("float64")
                weights += weight
        means[n] /= weights
    return means


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_the_descriptor_is_the_saliency_weighted_mean():
    x = images()
    np.testing.assert_allclose(numpy(SalientDescriptor()(x)), unit(described(*x)), atol=1e-5)
    features, saliency = x
    saliency = np.zeros_like(saliency)
    saliency[:, 1, 2] = 1
    only = numpy(SalientDescriptor(epsilon=1e-6)([features, saliency]))
    np.testing.assert_allclose(only, unit(features[:, 1, 2]), atol=1e-4)
    nothing = numpy(SalientDescriptor()([features, 0 * saliency]))
    np.testing.assert_allclose(nothing, unit(features.mean(axis=(1, 2))), atol=1e-5)


def test_adapted_descriptors_are_white():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(CHANNELS, CHANNELS)) * np.array([0.1, 1, 10, 30])
    many = rng.normal(size=(5000, CHANNELS)) @ mixing + [5, 0, -3, 100]
    layer, x = SalientDescriptor(), images()
    layer(x)
    layer.adapt(many, shrinkage=1e-9)
    whitening = numpy(layer.whitening).astype("float64")
    np.testing.assert_allclose(
        np.cov((many - many.mean(axis=0)) @ whitening, rowvar=False), np.eye(CHANNELS), atol=1e-2
    )
    expected = unit((described(*x) - many.mean(axis=0)) @ whitening)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-3)
    # shrinkage turns the correlations R = Q diag(e) Q' into Q diag(e / (e + s)) Q'
    layer.adapt(many, shrinkage=0.5)
    white = (many - many.mean(axis=0)) @ numpy(layer.whitening).astype("float64")
    values = np.linalg.eigvalsh(np.corrcoef(many, rowvar=False))
    whitened = np.linalg.eigvalsh(np.cov(white, rowvar=False))
    np.testing.assert_allclose(whitened, np.sort(values / (values + 0.5)), atol=1e-2)
    assert not layer.trainable_weights


def test_a_constant_channel_gives_finite_descriptors():
    layer, x = SalientDescriptor(), images()
    layer(x)
    many = np.random.default_rng(0).normal(size=(50, CHANNELS))
    many[:, 1] = 3
    layer.adapt(many)
    assert np.isfinite(numpy(layer(x))).all()


@pytest.mark.parametrize("described", [np.zeros((1, CHANNELS)), np.zeros((0, CHANNELS)), np.zeros(CHANNELS)])
def test_errors_end_with_what_was_received(described):
    layer = SalientDescriptor()
    layer(images())
    with pytest.raises(ValueError, match="Received"):
        layer.adapt(described)


def test_the_gate_multiplies_probabilities():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (IMAGES, 5, 4, 1))
    image, group = unit(rng.normal(size=(IMAGES, CHANNELS))), rng.normal(size=(IMAGES, CHANNELS))
    cosine = np.array([a @ b / np.sqrt(b @ b) for a, b in zip(image, group, strict=True)])
    counts = np.array([1.0, 4.0, 9.0])
    gated = numpy(GroupGate(scale=3.0, offset=-1.0)([logits, image, group, counts[:, None]]))
    unrelated = np.array([0, np.sqrt(3) / 4, np.sqrt(8) / 9])
    expected = sigmoid(logits) * sigmoid(3 * (cosine - unrelated) - 1)[:, None, None, None]
    np.testing.assert_allclose(sigmoid(gated.astype("float64")), expected, atol=1e-6)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
@pytest.mark.parametrize("gate", [-200.0, 200.0])
def test_the_gate_is_exact_for_extreme_logits(logit, gate):
    layer = GroupGate(scale=0.0, offset=gate)
    vector, count = np.ones((1, CHANNELS), "float32"), np.ones((1, 1), "float32")
    gated = numpy(layer([np.full((1, 1, 1, 1), logit, "float32"), vector, vector, count]))
    # for 200 and 200: log (p / (1 - p)) with p = 1 - 2e^-200
    expected = {(200.0, 200.0): 200 - np.log(2), (-200.0, -200.0): -400.0}.get((logit, gate), -200.0)
    np.testing.assert_allclose(gated, expected, rtol=1e-6)


def test_a_single_image_passes_the_gate_and_an_empty_group_has_finite_logits():
    layer, image = GroupGate(), unit(np.random.default_rng(0).normal(size=(1, CHANNELS)))
    logits = np.array([-2.0, 0, 2]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(numpy(layer([logits, image, image, np.ones((1, 1))])), logits, atol=0.03)
    assert np.isfinite(numpy(layer([logits, 0 * image, 0 * image, np.zeros((1, 1))]))).all()


def test_training_changes_scale_and_offset():
    inputs = [keras.Input((5, 4, 1)), keras.Input((CHANNELS,)), keras.Input((CHANNELS,)), keras.Input((1,))]
    model = keras.Model(inputs, GroupGate()(inputs))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = model.get_weights()
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(IMAGES, *tensor.shape[1:])) for tensor in inputs[:-1]] + [np.full((IMAGES, 1), 3.0)]
    model.fit(x, np.zeros((IMAGES, 5, 4, 1)), verbose=0)
    assert all(not np.array_equal(weight, old) for weight, old in zip(model.get_weights(), before, strict=True))


def test_saving_and_loading_preserves_the_outputs(tmp_path):
    features, saliency = keras.Input((*GRID, CHANNELS)), keras.Input((*GRID, 1))
    descriptor = SalientDescriptor(epsilon=0.01)
    vector = descriptor([features, saliency])
    count = keras.layers.GlobalMaxPooling2D()(saliency)
    model = keras.Model([features, saliency], GroupGate(scale=2.0, offset=1.0)([saliency, vector, vector, count]))
    descriptor.adapt(np.random.default_rng(0).normal(size=(20, CHANNELS)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again(images())), numpy(model(images())))
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
