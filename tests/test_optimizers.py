import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, optimizers

from keras_recnet.optimizers import BackboneMap, learning_rates, two_rates, warmup_cosine


@pytest.fixture
def policy(request):
    """Set the global dtype policy: `compile` adds loss scaling to models created under `mixed_float16`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


both_policies = pytest.mark.parametrize("policy", ["float32", "mixed_float16"], indirect=True)
half = pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)


def nested(dtype=None, head="head", freeze=()):
    """A model around a backbone that was built separately, so that the backbone's variable paths have no prefix."""
    inputs = keras.Input((3,))
    hidden = layers.Dense(3, name="first", dtype=dtype)(inputs)
    backbone = keras.Model(inputs, layers.Dense(3, name="second", dtype=dtype)(hidden), name="backbone")
    for name in freeze:
        backbone.get_layer(name).trainable = False
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, name=head, dtype=dtype)(backbone(inputs)))
    model.backbone = backbone
    return model


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 2)).astype("float32")


def small_weights():
    """Weights of `nested` whose gradients fit float16 when scaled by 2^15, the initial loss scale."""
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.5, 0.5, weight.shape) for weight in nested().get_weights()]


def arrays(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_warmup_cosine_equals_its_formula():
    schedule = warmup_cosine(0.2, 60, 10)
    for step in range(0, 61, 5):
        expected = 0.2 * step / 10 if step < 10 else 0.1 * (1 + math.cos(math.pi * (step - 10) / 50))
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)
    assert float(schedule(90)) == pytest.approx(0.0, abs=1e-7)
    assert float(warmup_cosine(1, 60)(0)) == 1.0
    assert float(warmup_cosine(1, 60)(30)) == pytest.approx(0.5, rel=1e-5)


def test_a_schedule_is_restored_with_its_optimizer():
    schedule = warmup_cosine(0.2, 50, 5)
    optimizer = optimizers.SGD(schedule)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    again.iterations.assign(20)
    assert float(keras.ops.convert_to_numpy(again.learning_rate)) == pytest.approx(float(schedule(20)), rel=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: warmup_cosine(0.1, 0),
        lambda: warmup_cosine(0.1, 10, 10),
        lambda: warmup_cosine(0.1, 10, -1),
    ],
)
def test_schedule_errors_end_with_what_was_received(bad):
    with pytest.raises(ValueError, match="Received"):
        bad()


def test_each_part_has_its_own_learning_rate():
    images, targets = data()
    start = nested()
    gradients = []
    for rates in ((1.0, 1.0), (0.1, 0.01)):
        model = nested()
        model.set_weights(start.get_weights())
        model.compile(two_rates(model, optimizers.SGD(rates[0]), optimizers.SGD(rates[1])), "mse")
        model.train_on_batch(images, targets)
        gradients.append([a - b for a, b in zip(start.get_weights(), model.get_weights(), strict=True)])
    for whole, scaled, rate in zip(*gradients, [0.1] * 4 + [0.01] * 2, strict=True):
        assert np.abs(whole).max() > 0
        np.testing.assert_allclose(scaled, rate * whole, atol=1e-6)


def test_frozen_layers_are_not_trained():
    model = nested(freeze=["first"])
    first = arrays(model.backbone.get_layer("first").weights)
    model.compile(two_rates(model, optimizers.SGD(0.1), optimizers.SGD(0.1)), "mse")
    model.fit(*data(), verbose=0)
    for before, after in zip(first, model.backbone.get_layer("first").weights, strict=True):
        np.testing.assert_array_equal(before, after)


def test_learning_rates_apply_to_the_next_step():
    model = nested()
    model.compile(
        two_rates(model, optimizers.SGD(optimizers.schedules.PolynomialDecay(0.1, 4, 0.0)), optimizers.Adam(0.5)), "mse"
    )
    assert learning_rates(model.optimizer) == pytest.approx({"backbone": 0.1, "rest": 0.5})
    model.fit(*data(), batch_size=2, verbose=0)
    assert learning_rates(model.optimizer) == pytest.approx({"backbone": 0.05, "rest": 0.5})
    assert learning_rates(optimizers.SGD(0.25, name="one")) == {"one": 0.25}
    by_hand = optimizers.OptimizerMap(optimizers.SGD(0.25, name="all"), {"a": optimizers.SGD(0.5, name="some")})
    assert learning_rates(optimizers.MultiOptimizer(by_hand)) == {"some": 0.5, "all": 0.25}


@both_policies
def test_a_compiled_model_is_restored_with_both_optimizer_states(policy, tmp_path):
    keras.utils.set_random_seed(0)
    model = nested()
    adam = [optimizers.AdamW(warmup_cosine(rate, 20, 2)) for rate in (0.01, 0.1)]
    model.compile(two_rates(model, *adam), "mse")
    model.fit(*data(), batch_size=2, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert learning_rates(loaded.optimizer) == learning_rates(model.optimizer)
    for saved, restored in zip(arrays(model.optimizer.variables), arrays(loaded.optimizer.variables), strict=True):
        np.testing.assert_array_equal(restored, saved)
    for one in (model, loaded):
        one.fit(*data(1), batch_size=4, epochs=3, verbose=0)
    for original, restored in zip(arrays(model.variables), arrays(loaded.variables), strict=True):
        np.testing.assert_allclose(restored, original, atol=1e-3 if policy == "mixed_float16" else 1e-5)


@both_policies
def test_training_resumes_from_the_variables_alone(policy):
    """A checkpoint needs only the values of `model.variables` and `optimizer.variables`."""
    runs = []
    for interrupted in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled()
        model.fit(*data(), epochs=2, verbose=0, shuffle=False)
        if interrupted:
            saved = arrays(model.variables), arrays(model.optimizer.variables)
            keras.utils.set_random_seed(1)
            model = compiled()
            for variables, values in zip((model.variables, model.optimizer.variables), saved, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
        model.fit(*data(1), epochs=2, verbose=0, shuffle=False)
        runs.append(arrays(model.variables) + arrays(model.optimizer.variables))
    for whole, resumed in zip(*runs, strict=True):
        np.testing.assert_allclose(whole, resumed, rtol=1e-5, atol=1e-6)


def compiled():
    model = nested()
    model.compile(two_rates(model, optimizers.AdamW(0.001), optimizers.SGD(0.01, momentum=0.9)), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@half
def test_loss_scaling_skips_a_non_finite_step_for_both_parts(policy):
    model = compiled()
    model.set_weights(small_weights())
    scaler = model.optimizer
    assert isinstance(scaler, optimizers.LossScaleOptimizer)
    images, targets = data()
    model.train_on_batch(images, targets)
    counters = [one.iterations for one in scaler.inner_optimizer.optimizers]
    assert [int(c) for c in arrays(counters)] == [1, 1]
    weights, scale = arrays(model.trainable_variables), float(scaler.dynamic_scale)
    model.train_on_batch(images * np.inf, targets)
    assert [int(c) for c in arrays(counters)] == [1, 1]
    assert float(scaler.dynamic_scale) == scale / 2
    for before, after in zip(weights, arrays(model.trainable_variables), strict=True):
        np.testing.assert_array_equal(before, after)


@half
def test_a_step_with_loss_scaling_equals_a_step_in_float32(policy):
    images, targets = data()
    weights, steps = small_weights(), []
    for dtype, scaled in (("float32", False), (policy, True)):
        model = nested(dtype)
        model.set_weights(weights)
        model.compile(two_rates(model, optimizers.SGD(0.01), optimizers.SGD(0.1)), "mse", auto_scale_loss=scaled)
        model.train_on_batch(images, targets)
        steps.append([a - b for a, b in zip(model.get_weights(), weights, strict=True)])
    assert min(np.abs(step).max() for step in steps[0]) > 1e-3
    for exact, rounded in zip(*steps, strict=True):
        np.testing.assert_allclose(rounded, exact, rtol=0.02, atol=1e-4)


def test_paths_must_match_exactly():
    backbone, rest = optimizers.SGD(0.1), optimizers.SGD(0.2)
    optimizer_map = BackboneMap(backbone, rest, ["conv.1/kernel"])
    assert optimizer_map["conv.1/kernel"] is backbone
    assert optimizer_map["conv_1/kernel"] is rest


def unrelated_backbone():
    return SimpleNamespace(name="model", trainable_variables=nested().trainable_variables, backbone=nested().backbone)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nested(freeze=["first", "second"]), "no trainable variables"),
        (lambda: nested(head="second"), r"rename the layer. Received: \['second/kernel', 'second/bias'\]"),
        (unrelated_backbone, r"does not train, for example 'first/kernel'. Received"),
    ],
)
def test_a_backbone_that_cannot_be_separated_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        two_rates(model(), optimizers.SGD(0.1), optimizers.SGD(0.2))


def test_optimizers_that_wrap_others_or_are_identical_are_refused():
    model, plain = nested(), optimizers.SGD(0.1)
    for bad in (plain, optimizers.LossScaleOptimizer(optimizers.SGD(0.1)), "sgd"):
        with pytest.raises(ValueError, match="Received"):
            two_rates(model, plain, bad)
