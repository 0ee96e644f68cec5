import keras
import numpy as np
import pytest

from keras_recnet.layers import GroupClassifier


def numpy(x):
    return keras.ops.convert_to_numpy(x)


random = np.random.default_rng(0)
LOGITS = random.normal(size=(2, 3, 4, 4, 1)).astype("float32")
EMBEDDING = random.normal(size=(2, 3, 2, 2, 5)).astype("float32")
MASKS = (random.uniform(size=(2, 3, 4, 4, 1)) > 0.5).astype("float32")
MASKS[1, 2] = 0  # a distractor
GROUPS = np.array([3, 0], "int32")


def by_loops(vectors, scale):
    """Cross-entropy of every image with an object, in float64."""
    losses = []
    for b, n in np.ndindex(2, 3):
        mask = MASKS[b, n, :, :, 0].astype("float64")
        if not mask.any():
            continue
        mean = np.zeros(5)
        for y, x in np.ndindex(4, 4):
            mean += mask[y, x] / 4 * EMBEDDING[b, n, y // 2, x // 2]
        cosines = [mean @ v / np.linalg.norm(mean) / np.linalg.norm(v) for v in vectors.T.astype("float64")]
        shares = np.exp(scale * np.array(cosines))
        losses.append(-np.log(shares[GROUPS[b]] / shares.sum()))
    return losses


def test_the_loss_is_the_cross_entropy_of_cosines_and_the_logits_are_unchanged():
    layer = GroupClassifier(4, weight=0.5, scale=3.0)
    output = layer([LOGITS, EMBEDDING, MASKS, GROUPS])
    np.testing.assert_array_equal(numpy(output), LOGITS)
    losses = by_loops(numpy(layer.vectors), 3.0)
    assert len(losses) == 5
    assert float(layer.losses[0]) == pytest.approx(0.5 * np.mean(losses), rel=1e-3)


def test_a_batch_without_objects_has_no_loss():
    layer = GroupClassifier(4)
    layer([LOGITS, EMBEDDING, 0 * MASKS, GROUPS])
    assert float(layer.losses[0]) == 0


def test_training_brings_objects_of_a_group_together():
    inputs = [keras.Input(array.shape[1:], dtype=array.dtype) for array in (LOGITS, EMBEDDING, MASKS, GROUPS)]
    embedding = keras.layers.Dense(4, name="embedding")(inputs[1])
    model = keras.Model(inputs, GroupClassifier(4)([inputs[0], embedding, *inputs[2:]]))
    model.compile(keras.optimizers.Adam(0.05))
    before = [np.array(numpy(weight)) for weight in model.trainable_weights]
    data = [LOGITS, EMBEDDING, MASKS, GROUPS]
    losses = model.fit(data, LOGITS, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 4
    assert all((numpy(weight) != value).any() for weight, value in zip(model.trainable_weights, before, strict=True))


def test_a_layer_is_restored_from_its_configuration():
    layer = GroupClassifier(7, weight=0.25, scale=9.0, name="classifier")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
