import keras
import numpy as np
import pytest

from keras_recnet.layers import ConsensusMaps, ImageSummary, SumGroups, UnitLength

HEIGHT, WIDTH, CHANNELS, IMAGES = 3, 4, 5, 4


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def unit_vectors(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def group(seed=0):
    """Embedding and saliency of a group's images, float64."""
    embedding = unit_vectors(IMAGES, HEIGHT, WIDTH, CHANNELS, seed=seed)
    return embedding, np.random.default_rng(seed + 1).uniform(0.1, 1, (IMAGES, HEIGHT, WIDTH, 1))


def summary_of(embedding, saliency):
    """Mean and second moments of one image, in loops."""
    vector, moments, total = np.zeros(CHANNELS), np.zeros((CHANNELS, CHANNELS)), 0.0
    for row in range(HEIGHT):
        for column in range(WIDTH):
            e, m = embedding[row, column], saliency[row, column, 0]
            vector += m * e
            moments += m * np.outer(e, e)
            total += m
    return vector / total, moments / total


def maps_by_layers(embedding, saliency, mask=None):
    embedding, saliency = embedding.astype("float32"), saliency.astype("float32")
    mask = np.ones((1, IMAGES), "bool") if mask is None else mask
    vector, moments = ImageSummary()([embedding, saliency])
    sums = [numpy(SumGroups()([x[None], mask])).repeat(IMAGES, axis=0) for x in (vector, moments)]
    count = np.full((IMAGES, 1), mask.sum(), "float32")
    return numpy(ConsensusMaps()([embedding, vector, moments, *sums, count]))


def test_the_summary_equals_loops_in_float64():
    embedding, saliency = group()
    vector, moments = (numpy(x) for x in ImageSummary()([embedding.astype("float32"), saliency.astype("float32")]))
    for image in range(IMAGES):
        expected = summary_of(embedding[image], saliency[image])
        np.testing.assert_allclose(vector[image], expected[0], atol=2e-3)
        np.testing.assert_allclose(moments[image], expected[1], atol=2e-3)
    assert (vector.shape, moments.shape) == tuple(
        ImageSummary().compute_output_shape([embedding.shape, saliency.shape])
    )


def test_the_maps_compare_each_image_with_the_other_images():
    embedding, saliency = group()
    maps = maps_by_layers(embedding, saliency)
    summaries = [summary_of(e, s) for e, s in zip(embedding, saliency, strict=True)]
    for image in range(IMAGES):
        mean = np.mean([summaries[n][0] for n in range(IMAGES) if n != image], axis=0)
        moments = np.mean([summaries[n][1] for n in range(IMAGES) if n != image], axis=0)
        vector = summaries[image][0]
        cosine = vector @ mean / np.linalg.norm(vector) / np.linalg.norm(mean)
        for row in range(HEIGHT):
            for column in range(WIDTH):
                e = embedding[image, row, column]
                expected = [e @ mean, e @ moments @ e, cosine]
                np.testing.assert_allclose(maps[image, row, column], expected, atol=5e-3)


def test_what_the_images_share_has_the_highest_similarity():
    embedding, saliency = group()
    shared = unit_vectors(CHANNELS, seed=9)
    embedding[:, 1, 2] = shared
    saliency[:] = 0.01
    saliency[:, 1, 2] = 1
    first, second, cosine = np.moveaxis(maps_by_layers(embedding, saliency), -1, 0)
    for similarity in (first, second):
        assert similarity.reshape(IMAGES, -1).argmax(axis=1).tolist() == [1 * WIDTH + 2] * IMAGES
    assert cosine.min() > 0.9


def test_an_image_is_not_compared_with_itself():
    embedding, saliency = group()
    before = maps_by_layers(embedding, saliency)[0, ..., :2]
    saliency[0] = np.random.default_rng(5).uniform(size=saliency[0].shape)
    np.testing.assert_allclose(maps_by_layers(embedding, saliency)[0, ..., :2], before, atol=1e-5)


def test_padding_and_order_do_not_change_the_maps():
    embedding, saliency = group()
    maps = maps_by_layers(embedding, saliency)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(maps_by_layers(embedding[order], saliency[order]), maps[order], atol=1e-5)
    mask = np.array([[True, True, True, False]])
    padded = maps_by_layers(embedding, saliency, mask)[:3]
    embedding[3] = unit_vectors(HEIGHT, WIDTH, CHANNELS, seed=8)
    np.testing.assert_array_equal(maps_by_layers(embedding, saliency, mask)[:3], padded)


def test_a_group_of_one_has_maps_close_to_zero():
    embedding, saliency = (x.astype("float32") for x in group())
    vector, moments = ImageSummary()([embedding, saliency])
    ones = np.ones((IMAGES, 1), "float32")
    np.testing.assert_allclose(ConsensusMaps()([embedding, vector, moments, vector, moments, ones]), 0, atol=1e-3)


def test_sums_ignore_the_content_of_padding():
    x = np.arange(12, dtype="float32").reshape(2, 3, 2)
    x[1, 2] = np.nan
    mask = np.array([[True, False, True], [True, True, False]])
    np.testing.assert_array_equal(numpy(SumGroups()([x, mask])), [[4, 6], [14, 16]])


def test_vectors_have_length_1_and_zero_stays_zero():
    x = np.random.default_rng(0).normal(size=(3, 4, 5), scale=10).astype("float32")
    np.testing.assert_allclose(numpy(UnitLength()(x)), x / np.linalg.norm(x, axis=-1, keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(numpy(UnitLength()(np.zeros((1, 5)))), np.zeros((1, 5)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_group_of_thousands_is_exact_in_half_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        total = SumGroups()([keras.ops.ones((1, 5000, 2)), np.ones((1, 5000), "bool")])
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(numpy(total), [[5000, 5000]])
