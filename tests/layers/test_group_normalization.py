import keras
import numpy as np
import pytest

from keras_recnet.layers import ChannelGroupNormalization


@pytest.mark.parametrize(("groups", "channels"), [(2, 6), (1, 5), (8, 16), (8, 4)])
def test_the_layer_equals_that_of_keras(groups, channels):
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (2, 3, 4, channels)).astype("float32")
    layer, reference = ChannelGroupNormalization(groups), keras.layers.GroupNormalization(min(groups, channels))
    for one in (layer, reference):
        one.build(x.shape)
    weights = [random.normal(size=weight.shape) for weight in layer.weights]
    layer.set_weights(weights)
    reference.set_weights(weights)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer(x)), keras.ops.convert_to_numpy(reference(x)), atol=1e-4
    )


def test_the_number_of_groups_is_reduced_to_a_divisor_of_the_channels():
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 6)).astype("float32")
    layer = ChannelGroupNormalization(4)  # gcd(4, 6) = 2 groups of 3 channels
    y = keras.ops.convert_to_numpy(layer(x)).astype("float64")
    for part in (y[..., :3], y[..., 3:]):
        np.testing.assert_allclose([part.mean(), part.std()], [0, 1], atol=2e-3)
