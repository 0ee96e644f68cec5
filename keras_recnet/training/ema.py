"""The optimizers of a training: Keras' own, with a running average of the weights beside the weights."""

import contextlib

import keras
from keras import ops


class _Averaging:
    """Gives a Keras optimizer with `use_ema=True` a warm-up of its average, and leaves the overwriting to the caller.

    After update t = 0, 1, … the average a of a weight w is `a ← a + (1 − d)·(w − a)` with d = 0 at first and then
    `d = min(ema_momentum, (1 + t) / (10 + t))`. Keras' own average uses `ema_momentum` from the second update on, so
    that in a short training much of the random start stays in it; and it copies the average into the weights at the
    end of each `fit`, which would disturb a training of several `fit` calls. The average is among the optimizer's
    variables, so that whatever saves these saves it.

    Besides, the learning rate of a schedule is computed once an update. Keras computes it for every weight that decays,
    which makes the graph of a network of two hundred weights a fifth larger and its first step seconds slower.

    Reference:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 30(4), 1992;
        the warm-up is that of `tf.train.ExponentialMovingAverage(num_updates=…)`.
    """

    _rate = None

    def _backend_apply_gradients(self, grads, trainable_variables):
        rate = super()._get_current_learning_rate()
        # not by `self._rate = …`: Keras would track the tensor as a part of the optimizer
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
