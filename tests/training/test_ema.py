import contextlib

import keras
import numpy as np
import pytest

from keras_recnet.training import ema
from keras_recnet.training.ema import averaged_weights


def one_weight(optimizer):
    """A model y = w·x with w = 1 and a loss with gradient 1: each step of SGD subtracts the learning rate from w."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizer, lambda y_true, y_pred: keras.ops.mean(y_pred, axis=-1), jit_compile=False)
    return model, np.ones((1, 1), "float32")


def test_ema_equals_values_computed_by_hand():
    model, x = one_weight(ema.SGD(0.1, use_ema=True, ema_momentum=0.15))
    expected, w = None, 1.0
    for step in range(4):
        model.train_on_batch(x, x)
        w -= 0.1
        d = min(0.15, (1 + step) / (10 + step))
        expected = w if expected is None else d * expected + (1 - d) * w
        with averaged_weights(model):
            assert float(model.weights[0][0, 0]) == pytest.approx(expected, abs=1e-6)
        assert float(model.weights[0][0, 0]) == pytest.approx(w, abs=1e-6)


def test_a_second_fit_continues_from_the_trained_weights():
    # Keras copies its average into the weights after each fit
    model, x = one_weight(ema.SGD(0.1, use_ema=True, ema_momentum=0.99))
    for _ in range(2):
        model.fit(x, x, epochs=3, verbose=0)
    assert float(model.weights[0][0, 0]) == pytest.approx(1.0 - 6 * 0.1, abs=1e-6)


def test_the_trained_weights_are_restored_exactly_even_after_an_error(small_model):
    model, x, y = small_model
    for _ in range(3):
        model.train_on_batch(x, y)
    before = model.get_weights()
    averaged = None
    with contextlib.suppress(KeyboardInterrupt), averaged_weights(model):
        averaged = model.get_weights()
        raise KeyboardInterrupt
    assert any((a != b).any() for a, b in zip(before, averaged, strict=True))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_training_with_schedule_and_weight_decay_equals_keras(name):
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 6)
    trained = []
    for module in (ema, keras.optimizers):
        model, x = one_weight(getattr(module, name)(schedule, weight_decay=0.1))
        model.fit(x, x, epochs=5, verbose=0)
        trained.append(float(model.weights[0][0, 0]))
    assert trained[0] == trained[1]
    assert trained[0] != 1.0


def test_without_ema_the_weights_stay_unchanged():
    model, x = one_weight(ema.SGD(0.1))
    model.train_on_batch(x, x)
    with averaged_weights(model):
        assert float(model.weights[0][0, 0]) == pytest.approx(0.9)


def test_inner_optimizers_of_multiple_rates_and_loss_scaling_are_found():
    one, two = (ema.SGD(0.1, use_ema=True) for _ in range(2))
    both = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(one, {"a": two}))
    assert {id(inner) for inner in ema.inner_optimizers(keras.optimizers.LossScaleOptimizer(both))} == {
        id(one),
        id(two),
    }
