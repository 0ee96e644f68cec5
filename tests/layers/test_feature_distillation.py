import keras
import numpy as np
import pytest

from keras_recnet.layers import FeatureDistillation

random = np.random.default_rng(0)
OUTPUTS = random.normal(size=(2, 8, 8, 2)).astype("float32")
FEATURES = random.normal(size=(2, 2, 3, 5)).astype("float32")
TEACHER = random.normal(size=(2, 2, 3, 4)).astype("float32")


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def test_the_loss_is_the_cosine_distance_of_a_linear_map_and_the_outputs_are_unchanged():
    layer = FeatureDistillation(weight=0.5)
    np.testing.assert_array_equal(numpy(layer([OUTPUTS, FEATURES, TEACHER])), OUTPUTS)
    kernel = numpy(layer.kernel).astype("float64")
    distances = []
    for n, y, x in np.ndindex(2, 2, 3):
        predicted, target = FEATURES[n, y, x] @ kernel, TEACHER[n, y, x].astype("float64")
        distances.append(1 - predicted @ target / np.linalg.norm(predicted) / np.linalg.norm(target))
    assert float(layer.losses[0]) == pytest.approx(0.5 * np.mean(distances), rel=1e-4)


def test_training_makes_the_features_predict_the_teacher():
    inputs = [keras.Input(array.shape[1:]) for array in (OUTPUTS, FEATURES, TEACHER)]
    features = keras.layers.Dense(5, name="features")(inputs[1])
    model = keras.Model(inputs, FeatureDistillation()([inputs[0], features, inputs[2]]))
    model.compile(keras.optimizers.Adam(0.05))
    before = [np.array(numpy(weight)) for weight in model.trainable_weights]
    losses = model.fit([OUTPUTS, FEATURES, TEACHER], OUTPUTS, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    assert all((numpy(weight) != value).any() for weight, value in zip(model.trainable_weights, before, strict=True))


def test_a_layer_is_restored_from_its_configuration():
    layer = FeatureDistillation(0.25, name="distillation")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
