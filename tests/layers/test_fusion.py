import keras
import numpy as np
import pytest

from keras_recnet.layers.fusion import FUSIONS, Fusion

FOREGROUND, BACKGROUND = 0.9, 0.3
EXPECTED = {"subtract": 0.6, "foreground": 0.9, "inverse_background": 0.7, "average": 0.8}


def logits_of(*probabilities):
    p = np.array(probabilities)
    return np.log(p / (1 - p)).reshape(1, 1, 1, 2)


@pytest.mark.parametrize("method", FUSIONS)
def test_fusion_equals_the_value_computed_by_hand(method):
    fused = Fusion(method)(logits_of(FOREGROUND, BACKGROUND))
    np.testing.assert_allclose(np.asarray(fused), EXPECTED[method], atol=1e-6)


@pytest.mark.parametrize(("method", "channel"), [("foreground", 0), ("inverse_background", 1)])
def test_the_channel_that_is_not_needed_can_be_left_out(method, channel):
    logits = logits_of(FOREGROUND, BACKGROUND)
    fused = Fusion(method)(logits[..., channel : channel + 1])
    np.testing.assert_allclose(np.asarray(fused), EXPECTED[method], atol=1e-6)


def test_subtract_is_never_negative():
    assert float(Fusion("subtract")(logits_of(0.2, 0.7))[0, 0, 0, 0]) == 0.0


def test_saving_and_loading_preserves_the_outputs(tmp_path):
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, Fusion("average")(inputs))
    model.save(tmp_path / "model.keras")
    logits = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").predict(logits, verbose=0), model.predict(logits, verbose=0)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: Fusion("max"),
        lambda: Fusion()(np.zeros((1, 4, 4, 1))),
        lambda: Fusion("foreground")(np.zeros((1, 4, 4, 3))),
    ],
)
def test_errors_name_the_received_value(call):
    with pytest.raises(ValueError, match="Received"):
        call()
