import keras
import numpy as np
import pytest

from keras_recnet.layers import FeatureIntegration

STRIDES = {"P1": 2, "P2": 4, "P3": 8, "P4": 16, "P5": 32}
SIZE, FILTERS = 64, 3


def side_outputs(seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(2, SIZE // stride, SIZE // stride, 2 + index)).astype("float32")
        for index, (name, stride) in enumerate(STRIDES.items())
    }


def convolve(x, kernel, bias, stride):
    """Convolution with TensorFlow's "same" padding and a ReLU, in loops and float64."""
    size, length = kernel.shape[0], -(-x.shape[0] // stride)
    total = max((length - 1) * stride + size - x.shape[0], 0)
    x = np.pad(x.astype("float64"), ((total // 2, total - total // 2),) * 2 + ((0, 0),))
    output = np.empty((length, length, kernel.shape[-1]))
    for row in range(length):
        for column in range(length):
            patch = x[row * stride : row * stride + size, column * stride : column * stride + size]
            output[row, column] = np.tensordot(patch, kernel.astype("float64"), axes=3) + bias
    return np.maximum(output, 0)


def test_side_outputs_are_concatenated_in_the_order_of_their_names():
    layer = FeatureIntegration(STRIDES, filters=FILTERS)
    inputs = {name: np.abs(x) for name, x in side_outputs().items()}
    layer.build({name: x.shape for name, x in inputs.items()})
    layer.set_weights([np.abs(weight) for weight in layer.get_weights()])  # no ReLU is 0
    output = keras.ops.convert_to_numpy(layer(inputs))
    assert output.shape == (2, 8, 8, 15) == layer.compute_output_shape({k: v.shape for k, v in inputs.items()})
    for index, name in enumerate(STRIDES):
        changed = keras.ops.convert_to_numpy(layer({**inputs, name: inputs[name] + 1}))
        channels = np.flatnonzero(np.abs(changed - output).max(axis=(0, 1, 2)))
        assert set(channels) <= set(range(index * FILTERS, (index + 1) * FILTERS))
        assert channels.size


def test_a_fine_side_output_passes_through_three_convolutions():
    layer = FeatureIntegration({"P2": 4}, filters=FILTERS)
    x = side_outputs()["P2"]
    output = keras.ops.convert_to_numpy(layer({"P2": x}))
    expected = x[0]
    for weights, stride in zip(np.array(layer.get_weights(), dtype=object).reshape(3, 2), (2, 1, 1), strict=True):
        expected = convolve(expected, *weights, stride)
    np.testing.assert_allclose(output[0], expected, atol=1e-5)


def test_a_coarse_side_output_is_resized_bilinearly():
    layer = FeatureIntegration({"P4": 16}, filters=1)
    x = np.zeros((1, 2, 2, 1), "float32")
    x[0, :, 1] = 1
    layer.build({"P4": x.shape})
    identity = np.zeros((3, 3, 1, 1))
    identity[1, 1] = 1
    zero = np.zeros(1)
    layer.set_weights([identity, zero, identity, zero, np.ones((1, 1, 1, 1)), zero])
    # from 2 to 4 columns with half-pixel centers: 0, 1/4, 3/4, 1
    expected = np.broadcast_to(np.array([0, 0.25, 0.75, 1])[:, None], (1, 4, 4, 1))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer({"P4": x})), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"separable": True, "normalization": "batch"}])
def test_saving_and_loading_preserves_the_outputs(options, tmp_path):
    inputs = {name: keras.Input(x.shape[1:], name=name) for name, x in side_outputs().items()}
    model = keras.Model(inputs, FeatureIntegration(STRIDES, filters=FILTERS, **options)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = side_outputs(1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), keras.ops.convert_to_numpy(model(x)))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: FeatureIntegration({"P1": 1}, stride=16),
        lambda: FeatureIntegration(STRIDES)({"P1": np.zeros((1, 8, 8, 2))}),
        lambda: FeatureIntegration(STRIDES, normalization="layer"),
    ],
)
def test_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()
