"""Keras optimizers with an exponential moving average (EMA) of the weights."""

import contextlib

import keras
import numpy as np
from keras import ops


class _WithEMA:
    """Mixin for a Keras optimizer: adds a warm-up to the EMA, which never overwrites the weights.

    After update t = 0, 1, … the average a of a weight w is `a ← a + (1 − d)·(w − a)`, with `d = 0` for t = 0 and
    `d = min(ema_momentum, (1 + t) / (10 + t))` for t > 0. Without the warm-up, as in Keras, the average of a short
    training is dominated by the random initialization. Keras also copies the average into the weights at the end of
    every `fit`, which is wrong if training consists of several `fit` calls. The average is stored in the optimizer's
    variables.

    The mixin also computes the learning rate of a schedule once per update. Keras computes it for every weight with
    decay, which makes the graph of a network with 200 weights 20 % larger and its first step seconds slower.

    Reference:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30(4), 1992.
        The warm-up is as in `tf.train.ExponentialMovingAverage(num_updates=…)`.
    """

    _rate = None

    def _backend_apply_gradients(self, grads, trainable_variables):
        rate = super()._get_current_learning_rate()
        # with `self._rate = …`, Keras would track the tensor as part of the optimizer
        object.__setattr__(self, "_rate", rate)
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            object.__setattr__(self, "_rate", None)

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate

    def _update_model_variables_moving_average(self, trainable_variables):
        step = ops.cast(self._iterations, "float32")
        decay = ops.minimum(self.ema_momentum, (1.0 + step) / (10.0 + step))
        share = ops.where(ops.equal(self._iterations, 0), 1.0, 1.0 - decay)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            self.assign_add(average, ops.multiply(share, ops.subtract(variable, average)))

    def finalize_variable_values(self, var_list):
        """Do nothing: the average is used in `averaged_weights` only."""


class AdamW(_WithEMA, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with EMA warm-up."""


class SGD(_WithEMA, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with EMA warm-up."""


def averaged_values(model: keras.Model) -> list[np.ndarray]:
    """Return the values of `model.weights`, with the EMA of those that have one, of a compiled model."""
    averages = {id(variable): average for variable, average in _averages(model)}
    return [np.array(ops.convert_to_numpy(averages.get(id(weight), weight))) for weight in model.weights]


@contextlib.contextmanager
def averaged_weights(model: keras.Model):
    """Replace the weights of a compiled model with their EMA in the block, and restore them exactly after it.

    With `use_ema=False` the weights stay unchanged. The block receives the model.
    """
    pairs = _averages(model)
    trained = [np.array(ops.convert_to_numpy(variable)) for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(ops.copy(average))  # on JAX, `evaluate` deletes the arrays of the weights
    try:
        yield model
    finally:
        for (variable, _), value in zip(pairs, trained, strict=True):
            variable.assign(value)


def _averages(model):
    """Return `(weight, its EMA)` of the trained weights of a compiled model."""
    return [
        (variable, average)
        for optimizer in inner_optimizers(model.optimizer)
        if optimizer.use_ema and optimizer.built
        for variable, average in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        )
    ]


def inner_optimizers(optimizer) -> list:
    """Return the optimizers inside a `MultiOptimizer` or a `LossScaleOptimizer`, or the optimizer itself."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(optimizer, "optimizers", [optimizer]))
