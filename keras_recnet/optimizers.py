"""Learning rates: schedules over a whole training, and a rate of its own for a pretrained backbone."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class PolyDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The "poly" decay of the field: `initial · (1 - step / steps)^power`, and 0 from `steps` on.

    Args:
        initial: learning rate of the first step.
        steps: number of steps of the whole training.
        power: exponent; the RecNet paper does not give it, 0.9 is the usual one.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> round(float(PolyDecay(0.1, 1000)(500)), 5)  # 0.1 · 0.5^0.9
        0.05359

    Reference:
        Liu et al., "ParseNet", 2015.
    """

    def __init__(self, initial, steps, power=0.9):
        if not initial >= 0:
            raise ValueError(f"`initial` must not be negative. Received: initial={initial!r}")
        _check_steps(steps)
        if not power > 0:
            raise ValueError(f"`power` must be above 0. Received: power={power!r}")
        self.initial = initial
        self.steps = steps
        self.power = power

    def __call__(self, step):
        left = 1.0 - ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return self.initial * ops.power(left, self.power)

    def get_config(self):
        return {"initial": self.initial, "steps": self.steps, "power": self.power}


def warmup_cosine(rate, steps, warmup_steps=0):
    """A linear rise from 0 to `rate` in `warmup_steps`, then half a cosine down to 0 at `steps`.

    This is `keras.optimizers.schedules.CosineDecay`, which counts its `decay_steps` from the end of the warm-up.

    Args:
        rate: highest learning rate.
        steps: number of steps of the whole training, the warm-up included.
        warmup_steps: number of steps of the rise, less than `steps`.

    Returns:
        `keras.optimizers.schedules.CosineDecay`.

    Raises:
        ValueError: if the steps do not fit.

    Example:
        >>> schedule = warmup_cosine(0.1, steps=110, warmup_steps=10)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 60, 110)]
        [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    _check_steps(steps)
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"`warmup_steps` must lie in 0…{steps - 1}, below `steps`. Received: warmup_steps={warmup_steps!r}"
        )
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(float(rate), steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup_steps, warmup_target=float(rate), warmup_steps=warmup_steps
    )


@keras.saving.register_keras_serializable(package="keras_recnet")
class BackboneMap(keras.optimizers.OptimizerMap):
    """One optimizer for the variables with the given paths, one for all others.

    `keras.optimizers.OptimizerMap` does the same in a training, but is saved with one copy of the optimizer for each
    path, so that a compiled model cannot be loaded again. It also reads paths as regular expressions; here only an
    exact path counts.

    Args:
        backbone_optimizer: optimizer of the variables in `paths`.
        rest_optimizer: optimizer of all others.
        paths: `variable.path` of the backbone's trainable variables.
    """

    def __init__(self, backbone_optimizer, rest_optimizer, paths):
        self._paths = frozenset(paths)
        super().__init__(rest_optimizer, dict.fromkeys(sorted(self._paths), backbone_optimizer))
        self.backbone_optimizer = backbone_optimizer
        self.rest_optimizer = rest_optimizer

    def __getitem__(self, path):
        return self.backbone_optimizer if path in self._paths else self.rest_optimizer

    def get_config(self):
        return {
            "backbone_optimizer": keras.saving.serialize_keras_object(self.backbone_optimizer),
            "rest_optimizer": keras.saving.serialize_keras_object(self.rest_optimizer),
            "paths": sorted(self._paths),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        backbone_optimizer, rest_optimizer = (
            keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("backbone_optimizer", "rest_optimizer")
        )
        return cls(backbone_optimizer, rest_optimizer, config["paths"])


def two_rates(model, backbone_optimizer, rest_optimizer):
    """An optimizer that trains the backbone of `model` with one optimizer and all the rest with another.

    What holds for the result:

    - It has no `learning_rate` of its own (`learning_rates` shows both), and Keras' callbacks that read or set one
      learning rate do not work with it: use schedules.
    - `global_clipnorm` clips the gradients of the two parts apart, each by its own norm.
    - `compile` wraps it in a `LossScaleOptimizer`, as any other optimizer, if the policy of the model itself is
      `mixed_float16` (the global one when it was made; that of its layers does not count): gradients are unscaled once,
      and a step with a gradient that is not finite is skipped for both parts, their counters included.
    - A compiled model with it can be saved to `.keras` and loaded, state included.
    - Its state is the values of `.variables`: all step counters, all slots and, around it, the loss scale. To put them
      back, build the optimizer and assign each variable (`LossScaleOptimizer.set_weights` leaves out the ones inside).

    Args:
        model: a model with the attribute `backbone`, a model inside of it. Layers that are frozen must be so already.
        backbone_optimizer: `keras.optimizers.Optimizer` of `model.backbone`.
        rest_optimizer: `keras.optimizers.Optimizer` of all other trainable variables.

    Returns:
        `keras.optimizers.MultiOptimizer`.

    Raises:
        ValueError: if the backbone has nothing to train, is not part of the model, or shares a path with the rest; if
            both optimizers are the same object or wrap others.

    Example:
        >>> model = keras_recnet.RecNet("efficientnet_lite0", 224)  # doctest: +SKIP
        >>> optimizer = two_rates(model, keras.optimizers.AdamW(2e-4), keras.optimizers.AdamW(2e-3))  # doctest: +SKIP
        >>> model.compile(optimizer, keras_recnet.losses.SaliencyLoss())  # doctest: +SKIP
        >>> learning_rates(model.optimizer)  # doctest: +SKIP
        {'backbone': 0.0002, 'rest': 0.002}
    """
    for optimizer in (backbone_optimizer, rest_optimizer):
        _check_plain(optimizer)
    if backbone_optimizer is rest_optimizer:
        raise ValueError(f"Expected two optimizers, one for each part. Received the same one twice: {rest_optimizer}")
    trained = {id(variable) for variable in model.trainable_variables}
    backbone = {id(variable): variable.path for variable in model.backbone.trainable_variables}
    if not backbone:
        raise ValueError(
            "The backbone has no trainable variables: unfreeze it, or compile with the optimizer of the rest alone. "
            f"Received: model={model.name!r}, backbone={model.backbone.name!r}"
        )
    foreign = [path for key, path in backbone.items() if key not in trained]
    if foreign:
        raise ValueError(
            f"`model.backbone` has {len(foreign)} trainable variables that the model does not train, the first is "
            f"{foreign[0]!r}. Received: model={model.name!r}, backbone={model.backbone.name!r}"
        )
    # Paths of a nested model carry no prefix, so a layer outside of it can have the same.
    paths = set(backbone.values())
    shared = [v.path for v in model.trainable_variables if id(v) not in backbone and v.path in paths]
    if shared:
        raise ValueError(
            f"Variables outside of the backbone must have other paths than those in it: rename the layer. Received: "
            f"{shared}"
        )
    return keras.optimizers.MultiOptimizer(BackboneMap(backbone_optimizer, rest_optimizer, backbone.values()))


def learning_rates(optimizer):
    """The learning rates that the next step will use.

    Args:
        optimizer: any Keras optimizer, also one that `compile` has wrapped for loss scaling.

    Returns:
        `{"backbone": rate, "rest": rate}` for `two_rates`; else one rate for each optimizer, under its name.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(optimizer, keras.optimizers.MultiOptimizer):
        named = {optimizer.name: optimizer}
    elif isinstance(optimizer._optimizer_map, BackboneMap):
        parts = optimizer._optimizer_map
        named = {"backbone": parts.backbone_optimizer, "rest": parts.rest_optimizer}
    else:
        named = {one.name: one for one in optimizer.optimizers}
    return {name: float(ops.convert_to_numpy(one.learning_rate)) for name, one in named.items()}


def _check_steps(steps):
    if not steps > 0:
        raise ValueError(f"`steps` must be above 0. Received: steps={steps!r}")


def _check_plain(optimizer):
    wrappers = (keras.optimizers.MultiOptimizer, keras.optimizers.LossScaleOptimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(optimizer, wrappers):
        raise ValueError(
            f"Expected a Keras optimizer that wraps no other (`compile` adds the loss scaling). Received: {optimizer!r}"
        )
