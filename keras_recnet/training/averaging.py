"""Running average of the weights, kept by the optimizer beside the weights that it trains."""

import contextlib

import keras
from keras import ops


class _Averaging:
    """Gives a Keras optimizer with `use_ema=True` a warm-up of its average, and leaves the overwriting to the caller.

    After update t the average a of a weight w is `a ← d·a + (1 − d)·w` with `d = min(ema_momentum, (1 + t) / (10 + t))`.
    Keras' own average uses `ema_momentum` from the second step on, so that in a short training much of the random start
    stays in it; and it copies the average into the weights at the end of each `fit`, which would disturb a training of
    several `fit` calls. The average is among the optimizer's variables, so that whatever saves these saves it.

    Reference:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30(4), 1992;
        the warm-up is that of `tf.train.ExponentialMovingAverage(num_updates=…)`.
    """

    def _update_model_variables_moving_average(self, trainable_variables):
        step = ops.cast(self._iterations, "float32")
        decay = ops.minimum(self.ema_momentum, (1.0 + step) / (10.0 + step))
        first = ops.equal(self._iterations, 0)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            new = ops.add(ops.multiply(decay, average), ops.multiply(1.0 - decay, variable))
            self.assign(average, ops.where(first, ops.convert_to_tensor(variable), new))

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are: `averaged_weights` shows the average where it is wanted."""


class AdamW(_Averaging, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with the average of `_Averaging`."""


class SGD(_Averaging, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the average of `_Averaging`."""


@contextlib.contextmanager
def averaged_weights(model: keras.Model):
    """Shows the averaged weights in a compiled model inside the block, and the trained ones, to the bit, after it.

    Without an average (`use_ema=False`) the block sees the trained weights.
    """
    pairs = [
        (variable, average)
        for optimizer in inner_optimizers(model.optimizer)
        if optimizer.use_ema and optimizer.built
        for variable, average in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        )
    ]
    trained = [ops.convert_to_numpy(variable) for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(average)
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, trained, strict=True):
            variable.assign(value)


def inner_optimizers(optimizer) -> list:
    """The optimizers that hold the slots: those inside a `MultiOptimizer` or a `LossScaleOptimizer`."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(optimizer, "optimizers", [optimizer]))
