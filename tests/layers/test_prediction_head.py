import keras
import numpy as np
import pytest

from keras_recnet.layers import PredictionHead


def inputs(finer, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [4 * 2**index for index in range(finer + 1)]
    return [rng.normal(size=(2, size, size, 5 + size)).astype("float32") for size in sizes]


@pytest.mark.parametrize("finer", [0, 1, 2])
def test_the_output_has_one_channel_at_the_size_of_the_finest_input(finer):
    head = PredictionHead(4, finer=finer)
    x = inputs(finer)
    size = 4 * 2**finer
    assert tuple(head(x).shape) == (2, size, size, 1) == head.compute_output_shape([y.shape for y in x])


def test_without_finer_side_outputs_the_head_is_three_convolutions():
    head = PredictionHead(4)
    x = inputs(0)[0]
    plain = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(1, 1),
        ]
    )
    plain.build(x.shape)
    head.build([x.shape])
    head.set_weights(plain.get_weights())
    np.testing.assert_allclose(keras.ops.convert_to_numpy(head([x])), keras.ops.convert_to_numpy(plain(x)), atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_input_affects_the_output(index):
    head = PredictionHead(8, finer=2, separable=True)
    x = inputs(2)
    before = keras.ops.convert_to_numpy(head(x))
    x[index] = x[index] + 1
    assert np.abs(keras.ops.convert_to_numpy(head(x)) - before).max() > 1e-4


@pytest.mark.parametrize("options", [{}, {"finer": 1, "separable": True, "normalization": "batch"}])
def test_saving_and_loading_preserves_the_outputs(options, tmp_path):
    x = inputs(options.get("finer", 0))
    symbolic = [keras.Input(y.shape[1:]) for y in x]
    head = PredictionHead(4, **options)
    model = keras.Model(symbolic if len(x) > 1 else symbolic[0], head(symbolic))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = x if len(x) > 1 else x[0]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), keras.ops.convert_to_numpy(model(x)))


def test_errors_end_with_what_was_received():
    with pytest.raises(ValueError, match="Received"):
        PredictionHead(finer=1)(inputs(0))
