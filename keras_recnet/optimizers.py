"""Learning rates: warm-up with cosine decay, and a separate optimizer for a pretrained backbone."""

import keras
from keras import ops


def warmup_cosine(rate: float, steps: int, warmup_steps: int = 0) -> keras.optimizers.schedules.LearningRateSchedule:
    """Build a schedule with linear warm-up from 0 to `rate`, then cosine decay to 0 at `steps`.

    `keras.optimizers.schedules.CosineDecay` counts its `decay_steps` from the end of the warm-up; here `steps` is the
    length of training.

    Args:
        rate: peak learning rate.
        steps: number of training steps, including the warm-up.
        warmup_steps: number of warm-up steps, less than `steps`.

    Returns:
        `keras.optimizers.schedules.CosineDecay`.

    Raises:
        ValueError: if `steps` or `warmup_steps` is out of range.

    Example:
        >>> schedule = warmup_cosine(0.1, steps=110, warmup_steps=10)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 60, 110)]
        [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    if not steps > 0:
        raise ValueError(f"`steps` must be greater than 0. Received: steps={steps!r}")
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"`warmup_steps` must be at least 0 and less than `steps`, {steps}. Received: warmup_steps={warmup_steps!r}"
        )
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(float(rate), steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup_steps, warmup_target=float(rate), warmup_steps=warmup_steps
    )


@keras.saving.register_keras_serializable(package="keras_recnet")
class BackboneMap(keras.optimizers.OptimizerMap):
    """Optimizer map with one optimizer for the variables at the given paths and another for all other variables.

    `keras.optimizers.OptimizerMap` trains identically, but saves one copy of the optimizer per path, so that a model
    compiled with it cannot be loaded. It also treats paths as regular expressions; here a path must match exactly.

    Args:
        backbone_optimizer: optimizer for the variables in `paths`.
        rest_optimizer: optimizer for all other variables.
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


def two_rates(
    model: keras.Model, backbone_optimizer: keras.optimizers.Optimizer, rest_optimizer: keras.optimizers.Optimizer
) -> keras.optimizers.MultiOptimizer:
    """Build an optimizer that trains the backbone of `model` and the rest with different optimizers.

    Notes:

    - The result has no single `learning_rate` (`learning_rates` returns both). Keras callbacks that read or set the
      learning rate do not work with it; use schedules instead.
    - `global_clipnorm` clips the gradients of each part by their own norm.
    - If the dtype policy of the model itself is `mixed_float16` (the global policy when the model was created, not the
      policy of its layers), `compile` wraps the result in a `LossScaleOptimizer`, as it does with any optimizer:
      gradients are unscaled once, and a step with a non-finite gradient is skipped for both parts, including their step
      counters.
    - A compiled model can be saved to `.keras` and loaded with the state of both optimizers.
    - The full state is in `.variables`: step counters, slots and, if wrapped, the loss scale. To restore it, build the
      optimizer and assign each variable (`LossScaleOptimizer.set_weights` skips the variables of inner optimizers).

    Args:
        model: a model whose attribute `backbone` is one of its submodels. Freeze layers before calling this function.
        backbone_optimizer: `keras.optimizers.Optimizer` for `model.backbone`.
        rest_optimizer: `keras.optimizers.Optimizer` for all other trainable variables.

    Returns:
        `keras.optimizers.MultiOptimizer`.

    Raises:
        ValueError: if the backbone has no trainable variables, is not part of the model or shares a variable path with
            the rest, or if the two optimizers are the same object or wrap other optimizers.

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
        raise ValueError(f"Expected two different optimizers. Received: the same object twice, {rest_optimizer}")
    trained = {id(variable) for variable in model.trainable_variables}
    backbone = {id(variable): variable.path for variable in model.backbone.trainable_variables}
    if not backbone:
        raise ValueError(
            "The backbone has no trainable variables: unfreeze it, or compile with `rest_optimizer` alone. "
            f"Received: model={model.name!r}, backbone={model.backbone.name!r}"
        )
    untrained = [path for key, path in backbone.items() if key not in trained]
    if untrained:
        raise ValueError(
            f"`model.backbone` has {len(untrained)} trainable variables that the model does not train, for example "
            f"{untrained[0]!r}. Received: model={model.name!r}, backbone={model.backbone.name!r}"
        )
    # Variable paths of a nested model have no prefix, so a layer outside the nested model can have the same path.
    paths = set(backbone.values())
    shared = [v.path for v in model.trainable_variables if id(v) not in backbone and v.path in paths]
    if shared:
        raise ValueError(
            f"Variables outside the backbone must not have the same path as those in it: rename the layer. Received: "
            f"{shared}"
        )
    return keras.optimizers.MultiOptimizer(BackboneMap(backbone_optimizer, rest_optimizer, backbone.values()))


def learning_rates(optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """Return the learning rates for the next step.

    Args:
        optimizer: any Keras optimizer, including one that `compile` has wrapped for loss scaling.

    Returns:
        `{"backbone": rate, "rest": rate}` for an optimizer built by `two_rates`, otherwise a dict from the name of each
        optimizer to its rate.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(optimizer, keras.optimizers.MultiOptimizer):
        named = {optimizer.name: optimizer}
    elif isinstance(optimizer._optimizer_map, BackboneMap):
        parts = optimizer._optimizer_map
        named = {"backbone": parts.backbone_optimizer, "rest": parts.rest_optimizer}
    else:
        named = {inner.name: inner for inner in optimizer.optimizers}
    return {name: float(ops.convert_to_numpy(inner.learning_rate)) for name, inner in named.items()}


def _check_plain(optimizer):
    wrappers = (keras.optimizers.MultiOptimizer, keras.optimizers.LossScaleOptimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(optimizer, wrappers):
        raise ValueError(
            f"Expected a Keras optimizer that does not wrap another one (`compile` adds loss scaling). "
            f"Received: {optimizer!r}"
        )
