import keras
import numpy as np
import pytest

from keras_recnet.layers import FUSIONS, Fusion, GroupCorrection


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def arrays(count, size=4, seed=0):
    random = np.random.default_rng(seed)
    branches = random.normal(size=(2, size, size, 2)).astype("float32")
    correction = random.normal(size=(2, size, size, 2)).astype("float32")
    return branches, correction, np.full((2, 1), count, "float32")


def test_the_gate_and_the_residual_change_the_logit_of_every_pixel():
    branches, correction, count = arrays(count=4)
    output = numpy(GroupCorrection("average")([branches, correction, count]))
    saliency = (sigmoid(branches[..., :1]) + 1 - sigmoid(branches[..., 1:])) / 2
    logit = np.log(saliency / (1 - saliency))
    gate = 2 * sigmoid(correction[..., :1]) - 1
    expected = logit + 0.75 * (gate * logit + correction[..., 1:])
    np.testing.assert_allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("upsampling", [1, 4])
def test_the_map_of_a_group_of_one_is_recnets(fusion, upsampling):
    branches, correction, count = arrays(count=1)
    output = numpy(GroupCorrection(fusion, upsampling)([branches, correction, count]))
    logits = keras.layers.UpSampling2D(upsampling, interpolation="bilinear")(branches)
    np.testing.assert_allclose(sigmoid(output), numpy(Fusion(fusion)(logits)), atol=1.1e-4)


def test_no_correction_leaves_recnets_map():
    branches, correction, count = arrays(count=100)
    output = numpy(GroupCorrection("average")([branches, 0 * correction, count]))
    np.testing.assert_allclose(sigmoid(output), numpy(Fusion("average")(branches)), atol=1.1e-4)


def test_an_object_can_be_removed_and_added_at_any_probability():
    branches = np.array([[[[9.0, -9.0], [-9.0, 9.0]]]], "float32")
    remove, add = np.array([[[[-9.0, -9.0]] * 2]], "float32"), np.array([[[[-9.0, 9.0]] * 2]], "float32")
    layer, count = GroupCorrection("average"), np.full((1, 1), 100, "float32")
    assert sigmoid(numpy(layer([branches, remove, count]))).max() < 0.01
    assert sigmoid(numpy(layer([branches, add, count]))).min() > 0.99


def test_the_correction_is_resized_to_the_map():
    branches, _, count = arrays(count=2, size=8)
    coarse = np.zeros((2, 4, 4, 2), "float32")
    coarse[..., 1] = 1.5
    layer = GroupCorrection("foreground", upsampling=2)
    assert layer.compute_output_shape([branches.shape]) == (2, 16, 16, 1)
    difference = numpy(layer([branches, coarse, count])) - numpy(layer([branches, 0 * coarse, count]))
    np.testing.assert_allclose(difference, 0.5 * 1.5, atol=1e-4)
