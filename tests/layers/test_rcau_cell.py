import itertools

import keras
import numpy as np
import pytest

from keras_recnet.layers import ConvGRUCell, RCAUCell

BATCH, HEIGHT, WIDTH, CHANNELS = 2, 3, 4, 5
SETTINGS = [
    dict(zip(("use_reset_gate", "use_spatial_attention", "use_channel_attention", "use_bias"), flags, strict=True))
    for flags in itertools.product([True, False], repeat=4)
]


def example(cell, seed=0):
    """Set random weights; return features of a batch of images, and a state."""
    cell.build((None, HEIGHT, WIDTH, CHANNELS))
    rng = np.random.default_rng(seed)
    cell.set_weights([rng.normal(size=weight.shape) for weight in cell.weights])
    features = rng.normal(size=(BATCH, HEIGHT, WIDTH, CHANNELS)).astype("float32")
    state = rng.normal(size=(BATCH, *cell.state_size[0])).astype("float32")
    return features, state


def weights_of(cell):
    return {weight.path.split("/")[-1]: np.asarray(weight.numpy(), "float64") for weight in cell.weights}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(x, w, name):
    """Dense layer for one vector, in loops."""
    kernel = w[f"{name}_kernel"]
    result = np.array([sum(x[i] * kernel[i, j] for i in range(len(x))) for j in range(kernel.shape[1])])
    return result + w.get(f"{name}_bias", 0)


def rcau_by_loops(cell, x, g):
    """Eq. 4–10 for one image, in float64."""
    w = weights_of(cell)
    x, g = x.astype("float64"), g.astype("float64")
    reset = x.copy()
    if cell.use_reset_gate:
        for i, j in np.ndindex(HEIGHT, WIDTH):
            gate = dense(x[i, j], w, "reset_input") + dense(g[i, j], w, "reset_state") + w.get("reset_bias", 0)
            reset[i, j] = x[i, j] * sigmoid(gate)
    z = g - x
    spatial = channel = None
    if cell.use_spatial_attention:
        means = np.array([z[i, j].mean() for i, j in np.ndindex(HEIGHT, WIDTH)])
        spatial = dense(np.maximum(dense(means, w, "spatial_1"), 0), w, "spatial_2").reshape(HEIGHT, WIDTH)
    if cell.use_channel_attention:
        channel = dense(np.array([z[..., c].mean() for c in range(CHANNELS)]), w, "channel")
    result = np.empty_like(x)
    for i, j, c in np.ndindex(HEIGHT, WIDTH, CHANNELS):
        if spatial is not None and channel is not None:
            logit = spatial[i, j] * channel[c]
        else:
            logit = spatial[i, j] if spatial is not None else channel[c] if channel is not None else 0.0
        if cell.update_bias is not None:
            logit += w["update_bias"][c]
        gate = sigmoid(logit)
        result[i, j, c] = gate * g[i, j, c] + (1 - gate) * reset[i, j, c]
    return result


def gru_by_loops(cell, x, h):
    w = weights_of(cell)
    x, h = x.astype("float64"), h.astype("float64")
    update, reset, candidate = np.split(w["input_kernel"], 3, axis=1)
    bias = np.split(w["bias"], 3)
    update_state, reset_state = np.split(w["gates_kernel"], 2, axis=1)
    result = np.empty_like(x)
    for i, j in np.ndindex(HEIGHT, WIDTH):
        z = sigmoid(x[i, j] @ update + h[i, j] @ update_state + bias[0])
        r = sigmoid(x[i, j] @ reset + h[i, j] @ reset_state + bias[1])
        new = np.tanh(x[i, j] @ candidate + (r * h[i, j]) @ w["candidate_kernel"] + bias[2])
        result[i, j] = z * h[i, j] + (1 - z) * new
    return result


def check(cell, by_loops):
    features, state = example(cell)
    output, states = cell(features, [state])
    expected = np.stack([by_loops(cell, x, g) for x, g in zip(features, state, strict=True)])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(output), expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(states[0]), keras.ops.convert_to_numpy(output))
    # with prepared inputs
    output, _ = cell(cell.prepare(features), [state])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(output), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("update_bias", [None, 1.5])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_step_equals_the_equations_in_loops(setting, update_bias):
    check(RCAUCell(**setting, update_bias=update_bias), rcau_by_loops)


@pytest.mark.parametrize("spatial_reduction", [2, 5, 12])
def test_a_narrow_spatial_map_equals_the_equations_in_loops(spatial_reduction):
    cell = RCAUCell(spatial_reduction=spatial_reduction)
    check(cell, rcau_by_loops)
    assert cell.spatial_kernels[0].shape == (12, 12 // spatial_reduction)


def test_a_step_of_the_gru_equals_its_equations_in_loops():
    check(ConvGRUCell(), gru_by_loops)


def test_the_papers_cell_has_no_biases_and_its_initial_gate_is_a_half():
    cell = RCAUCell()
    cell.build((None, HEIGHT, WIDTH, CHANNELS))
    assert not [weight.path for weight in cell.weights if "bias" in weight.path]
    assert cell.count_params() == 2 * CHANNELS**2 + 2 * (HEIGHT * WIDTH) ** 2 + CHANNELS**2
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(cell.update_gate(keras.ops.zeros((1, HEIGHT, WIDTH, CHANNELS)))), 0.5
    )


def test_the_reset_kernels_are_initialized_like_one_convolution():
    keras.utils.set_random_seed(0)
    cell, channels = RCAUCell(), 64
    cell.build((None, 2, 2, channels))
    halves = [keras.ops.convert_to_numpy(kernel) for kernel in (cell.reset_state_kernel, cell.reset_input_kernel)]
    limit = np.sqrt(6 / (2 * channels + channels))
    for half in halves:
        assert 0.97 * limit < np.abs(half).max() <= limit
    assert not np.array_equal(*halves)


@pytest.mark.parametrize("cell", [RCAUCell, ConvGRUCell])
def test_the_state_has_the_size_of_the_features(cell):
    cell = cell()
    cell.build((None, HEIGHT, WIDTH, CHANNELS))
    assert cell.state_size == [(HEIGHT, WIDTH, CHANNELS)]


@pytest.mark.parametrize(
    "cell",
    [RCAUCell(use_reset_gate=False, spatial_reduction=2, update_bias=1.5), ConvGRUCell()],
)
def test_a_cell_is_restored_from_its_configuration(cell):
    again = type(cell).from_config(cell.get_config())
    assert again.get_config() == cell.get_config()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: RCAUCell(spatial_reduction=0),
        lambda: RCAUCell(spatial_reduction=0.5),
        lambda: RCAUCell(spatial_reduction=13).build((None, HEIGHT, WIDTH, CHANNELS)),
        lambda: RCAUCell().build((None, None, WIDTH, CHANNELS)),
        lambda: ConvGRUCell().build((None, 2, HEIGHT, WIDTH, CHANNELS)),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
