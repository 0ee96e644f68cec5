import keras
import numpy as np
import pytest

from keras_recnet.layers import (
    BroadcastGroups,
    ConvGRUCell,
    GroupRNN,
    MergeGroups,
    RCAUCell,
    SplitGroups,
)

IMAGES, SIZE, CHANNELS = 4, (3, 4), 5
CELLS = {
    "rcau": lambda: RCAUCell(update_bias=1.0),
    "rcau without gates": lambda: RCAUCell(use_reset_gate=False, use_channel_attention=False),
    "gru": ConvGRUCell,
}


def features(batch=2, images=IMAGES, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, images, *SIZE, CHANNELS)).astype("float32")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def layer_of(cell, **options):
    keras.utils.set_random_seed(0)
    layer = GroupRNN(CELLS[cell](), **options)
    layer.build((None, None, *SIZE, CHANNELS))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def by_steps(layer, images):
    """All states of one group, computed by calling the cell for each image, from G_0 = X_1."""
    cell = layer.cell
    state, results = keras.ops.convert_to_tensor(images[:1]), []
    for image in images:
        output, (state,) = cell(image[None], [state])
        results.append(numpy(output)[0])
    return np.stack(results)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_loop_equals_calls_of_the_cell(cell, unroll):
    x = features()
    layer = layer_of(cell, return_sequences=True, return_state=True, unroll=unroll)
    outputs, state = layer(x)
    assert outputs.shape == (2, IMAGES, *SIZE, CHANNELS)
    assert (outputs.shape, state.shape) == layer.compute_output_shape(x.shape)
    for group in range(2):
        np.testing.assert_allclose(numpy(outputs)[group], by_steps(layer, x[group]), atol=1e-5)
    np.testing.assert_allclose(numpy(state), numpy(outputs)[:, -1], atol=1e-6)
    final = layer_of(cell, unroll=unroll)
    assert final.compute_output_shape(x.shape) == (2, *SIZE, CHANNELS)
    np.testing.assert_allclose(numpy(final(x)), numpy(outputs)[:, -1], atol=1e-6)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_padded_batch_equals_its_short_groups(cell, unroll):
    x, layer = features(batch=4), layer_of(cell, unroll=unroll)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]], "bool")
    states = numpy(layer(x, mask=mask))
    for group, keep in enumerate(mask[:3]):
        np.testing.assert_allclose(states[group], by_steps(layer, x[group, keep])[-1], atol=1e-5)
    np.testing.assert_array_equal(states[3], 0 * x[0, 0])
    # the content of the padding does not matter
    again = numpy(layer(np.where(mask[..., None, None, None], x, 1e3).astype("float32"), mask=mask))
    np.testing.assert_array_equal(again, states)


@pytest.mark.parametrize("cell", CELLS)
def test_a_masked_image_repeats_the_previous_state(cell):
    x, layer = features(batch=1), layer_of(cell, return_sequences=True)
    outputs = numpy(layer(x, mask=np.array([[False, True, False, True]])))[0]
    steps = by_steps(layer, x[0, [1, 3]])
    np.testing.assert_allclose(outputs, np.stack([x[0, 1], steps[0], steps[0], steps[1]]), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_loop_continues_from_a_state(cell):
    x = features()
    layer = layer_of(cell, return_state=True)
    _, state = layer(x[:, :3])
    output, _ = layer(x[:, 3:], initial_state=state)
    np.testing.assert_allclose(numpy(output), numpy(layer(x)[0]), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_order_matters(cell):
    x, layer = features(), layer_of(cell)
    assert np.abs(numpy(layer(x[:, ::-1])) - numpy(layer(x))).max() > 1e-2


@pytest.mark.parametrize("cell", CELLS)
def test_saving_and_loading_preserves_the_outputs_for_any_group_size(cell, tmp_path):
    inputs, mask = keras.Input((None, *SIZE, CHANNELS)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask], GroupRNN(CELLS[cell]())(inputs, mask=mask))
    assert model.output.shape == (None, *SIZE, CHANNELS)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for images in (1, 3):
        arrays = [features(images=images), np.ones((2, images), "bool")]
        np.testing.assert_array_equal(numpy(again(arrays)), numpy(model(arrays)))
        model.predict(arrays, verbose=0)


@pytest.mark.parametrize("cell", ["rcau", "gru"])
def test_fit_trains_every_weight(cell):
    keras.utils.set_random_seed(0)
    inputs, mask = keras.Input((None, *SIZE, CHANNELS)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask], GroupRNN(CELLS[cell]())(inputs, mask=mask))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = [numpy(weight) for weight in model.trainable_weights]
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], "bool")
    model.fit([features(), mask], features()[:, 0], verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(numpy(weight), old), weight.path


def test_groups_are_merged_split_and_broadcast():
    x = features()
    merged = MergeGroups()(x)
    np.testing.assert_array_equal(numpy(merged), x.reshape(2 * IMAGES, *SIZE, CHANNELS))
    mask = np.ones((2, IMAGES), "bool")
    np.testing.assert_array_equal(numpy(SplitGroups()([merged, mask])), x)
    np.testing.assert_array_equal(numpy(BroadcastGroups()([x[:, 0], mask])), x[:, 0].repeat(IMAGES, axis=0))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: GroupRNN(keras.layers.GRUCell(3)),
        lambda: GroupRNN(RCAUCell(), go_backwards=True),
        lambda: GroupRNN(RCAUCell(), stateful=True),
        lambda: GroupRNN(RCAUCell())(np.zeros((2, 3, 4, 5), "float32")),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
