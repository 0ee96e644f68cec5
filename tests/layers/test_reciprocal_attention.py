import itertools

import keras
import numpy as np
import pytest

from keras_recnet.layers import ReciprocalAttention

HEIGHT, WIDTH, CHANNELS, KEYS, VALUES = 2, 3, 4, 5, 6
OPTIONS = list(
    itertools.product(["joint", "each"], [False, True], ["both", "background", "foreground"], [None, VALUES])
)


def example(options, seed=0):
    """A layer with random weights, including α and β, and its inputs."""
    normalize, scale_scores, direction, value_channels = options
    layer = ReciprocalAttention(
        key_channels=KEYS,
        value_channels=value_channels,
        normalize=normalize,
        scale_scores=scale_scores,
        direction=direction,
    )
    layer.build([(None, HEIGHT, WIDTH, CHANNELS)] * 2)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer, rng.normal(size=(2, 2, HEIGHT, WIDTH, CHANNELS)).astype("float32")


def linear(x, layer):
    """1×1 convolution of `(positions, channels)`, in float64."""
    kernel, bias = (np.asarray(weight, "float64") for weight in layer.get_weights())
    return x @ kernel[0, 0] + bias


def by_loops(layer, foreground, background):
    """Eq. 1–3 for one image, position by position, in float64."""
    positions = HEIGHT * WIDTH
    f, b = (np.asarray(x, "float64").reshape(positions, CHANNELS) for x in (foreground, background))
    f2, b2 = linear(f, layer.foreground_key), linear(b, layer.background_key)
    score = np.empty((positions, positions))  # [i, j]: background position i, foreground position j
    for i in range(positions):
        for j in range(positions):
            score[i, j] = sum(b2[i, k] * f2[j, k] for k in range(KEYS))
    if layer.scale_scores:
        score /= np.sqrt(KEYS)
    x = np.empty_like(score)
    y = np.empty_like(score)
    for i in range(positions):
        for j in range(positions):
            x[i, j] = np.exp(score[i, j]) / sum(np.exp(score[k, j]) for k in range(positions))
            y[i, j] = np.exp(score[i, j]) / sum(np.exp(score[i, k]) for k in range(positions))
    foreground_plus, background_plus = f.copy(), b.copy()
    if layer.direction != "background":
        b1 = linear(b, layer.background_value)
        for j in range(positions):
            update = sum(x[i, j] * b1[i] for i in range(positions))
            if layer.value_channels:
                update = linear(update, layer.foreground_projection)
            foreground_plus[j] += float(layer.beta) * update
    if layer.direction != "foreground":
        f1 = linear(f, layer.foreground_value)
        weights = x if layer.normalize == "joint" else y
        for j in range(positions):
            update = sum(weights[j, i] * f1[i] for i in range(positions))
            if layer.value_channels:
                update = linear(update, layer.background_projection)
            background_plus[j] += float(layer.alpha) * update
    return (z.reshape(HEIGHT, WIDTH, CHANNELS) for z in (foreground_plus, background_plus))


@pytest.mark.parametrize("options", OPTIONS)
def test_outputs_match_the_equations_in_loops(options):
    layer, (foreground, background) = example(options)
    outputs = [keras.ops.convert_to_numpy(x) for x in layer([foreground, background])]
    for image in range(2):
        for output, expected in zip(outputs, by_loops(layer, foreground[image], background[image]), strict=True):
            np.testing.assert_allclose(output[image], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalize", ["joint", "each"])
def test_attention_weights_reproduce_the_output(normalize):
    layer, inputs = example((normalize, True, "both", None))
    weights = {key: keras.ops.convert_to_numpy(x) for key, x in layer.attention_weights(list(inputs)).items()}
    np.testing.assert_allclose(weights["foreground"].sum(axis=-1), 1, rtol=1e-5)
    if normalize == "each":
        np.testing.assert_allclose(weights["background"].sum(axis=-1), 1, rtol=1e-5)
    else:
        np.testing.assert_array_equal(weights["background"], weights["foreground"].transpose(0, 2, 1))
    foreground = inputs[0][0].reshape(-1, CHANNELS)
    values = linear(foreground.astype("float64"), layer.foreground_value)
    expected = inputs[1][0].reshape(-1, CHANNELS) + float(layer.alpha) * weights["background"][0] @ values
    output = keras.ops.convert_to_numpy(layer(list(inputs))[1])[0].reshape(-1, CHANNELS)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_the_initial_layer_is_the_identity():
    inputs = list(np.random.default_rng(0).normal(size=(2, 1, HEIGHT, WIDTH, CHANNELS)).astype("float32"))
    outputs = ReciprocalAttention(key_channels=KEYS)(inputs)
    for output, value in zip(outputs, inputs, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(output), value)


def test_permuting_the_background_permutes_only_the_background_output():
    layer, (foreground, background) = example(("joint", False, "both", None))
    before = [keras.ops.convert_to_numpy(x) for x in layer([foreground, background])]
    order = np.random.default_rng(1).permutation(HEIGHT * WIDTH)

    def permuted(x):
        return x.reshape(2, -1, CHANNELS)[:, order].reshape(x.shape)

    after = [keras.ops.convert_to_numpy(x) for x in layer([foreground, permuted(background)])]
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after[1], permuted(before[1]), rtol=1e-5, atol=1e-5)


def test_one_way_attention_leaves_the_other_branch_unchanged():
    layer, (foreground, background) = example(("joint", False, "foreground", None))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer([foreground, background])[1]), background)
    layer, (foreground, background) = example(("joint", False, "background", None))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer([foreground, background])[0]), foreground)


def test_float16_does_not_overflow_where_the_unscaled_product_would():
    layer = ReciprocalAttention(key_channels=512, dtype="mixed_float16")
    inputs = list(np.full((2, 1, HEIGHT, WIDTH, CHANNELS), 1.0, "float32"))
    layer.build([x.shape for x in inputs])
    # each key component is 16, so a score is 512 · 16 · 16 = 131,072, twice the largest float16
    layer.set_weights([np.full(weight.shape, 4.0 if len(weight.shape) else 1.0) for weight in layer.weights])
    for key in (layer.foreground_key, layer.background_key):
        key.set_weights([np.full((1, 1, CHANNELS, 512), 4.0), np.zeros(512)])
    for output in layer(inputs):
        output = keras.ops.convert_to_numpy(output)
        assert output.dtype == "float16"
        # the averaged values are 4 · 4 + 4 = 20; the input adds 1
        np.testing.assert_allclose(output, 21.0, rtol=1e-2)


def test_saving_and_loading_preserves_the_outputs(tmp_path):
    inputs = [keras.Input((HEIGHT, WIDTH, CHANNELS)) for _ in range(2)]
    layer = ReciprocalAttention(key_channels=KEYS, value_channels=VALUES, normalize="each", scale_scores=True)
    model = keras.Model(inputs, layer(inputs))
    model.set_weights([np.random.default_rng(0).normal(size=weight.shape) for weight in model.weights])
    model.save(tmp_path / "model.keras")
    x = list(np.random.default_rng(1).normal(size=(2, 1, HEIGHT, WIDTH, CHANNELS)).astype("float32"))
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[-1].get_config() == layer.get_config()
    for one, other in zip(again(x), model(x), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ReciprocalAttention(normalize="softmax"),
        lambda: ReciprocalAttention(direction="forward"),
        lambda: ReciprocalAttention()([np.zeros((1, 2, 2, 4)), np.zeros((1, 2, 2, 5))]),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
