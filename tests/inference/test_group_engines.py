import errno
import io
import itertools
import tempfile

import keras
import numpy as np
import pytest

from keras_recnet.inference.group_engines import stream
from keras_recnet.inference.group_stream import group_orders

SIZE, IMAGES = 64, 4
VERSIONS = ["edge", "rcau", "gru", "mean", None]


@pytest.fixture(scope="module", params=VERSIONS)
def model(request, make_group_model):
    return make_group_model(request.param)


def photographs(count=IMAGES):
    return list(np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype="uint8"))


def whole(model, images):
    inputs = {"images": np.stack(images)[None].astype("float32"), "mask": np.ones((1, len(images)), "bool")}
    return keras.ops.convert_to_numpy(model.to_inference()(inputs))[0, ..., 0]


@pytest.mark.parametrize(("count", "keep_features"), [(1, 0), (7, 2), (50, 0)])
def test_streaming_gives_the_maps_of_a_call_on_the_whole_group(model, count, keep_features):
    images = photographs(count)
    maps = list(stream(model, images, keep_features=keep_features))
    assert all(variance is None for _, variance in maps)
    saliency = np.stack([saliency for saliency, _ in maps])
    assert saliency.dtype == "float32"
    expected = whole(model, images)
    np.testing.assert_allclose(saliency, expected, atol=1e-5)
    assert expected.std() > 1e-3


def test_orders_make_no_difference_for_a_group_of_one_image(model):
    images = photographs()[:1]
    ((saliency, variance),) = stream(model, images, orders=3)
    np.testing.assert_allclose(saliency, whole(model, images)[0], atol=1e-6)
    np.testing.assert_allclose(variance, 0, atol=1e-12)


def test_orders_give_the_mean_state_and_the_variance_of_the_maps(model):
    images = photographs()
    maps = list(stream(model, images, orders=3, seed=1))
    again = list(stream(model, iter_of(images), orders=3, seed=1, keep_features=2))
    for one, other in zip(maps, again, strict=True):
        np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-6)
    variance = np.stack([variance for _, variance in maps])
    assert variance.shape == (IMAGES, SIZE, SIZE)
    single = []
    for order in group_orders(IMAGES, 3, seed=1):
        shuffled = whole(model, [images[index] for index in order])
        single.append(shuffled[np.argsort(order)])
    np.testing.assert_allclose(variance, np.var(single, axis=0, dtype="float64"), atol=1e-6)
    if model.recnet is not None or model.recurrent_unit in ("mean", None):
        assert variance.max() < 1e-12
        np.testing.assert_allclose(np.stack([saliency for saliency, _ in maps]), whole(model, images), atol=1e-5)
    else:
        assert variance.max() > 1e-9
        assert not np.allclose(next(stream(model, images, orders=3, seed=2)).variance, maps[0].variance, atol=1e-12)


def iter_of(images):
    return lambda: iter(images)


def test_stream_holds_one_image_at_a_time(model):
    alive, most = 0, 0

    class Photograph(np.ndarray):
        def __del__(self):
            nonlocal alive
            if getattr(self, "counted", False):
                alive -= 1

    def read():
        nonlocal alive, most
        for image in photographs() * 2:
            photograph = image.view(Photograph)
            photograph.counted = True
            alive += 1
            most = max(most, alive)
            yield photograph
            del photograph

    assert sum(1 for _ in stream(model, read)) == 2 * IMAGES
    assert most <= 2  # the current image and the next one that `read` yields


def test_the_first_order_is_the_given_one_and_a_seed_fixes_the_others():
    orders = group_orders(6, 4, seed=3)
    np.testing.assert_array_equal(orders[0], np.arange(6))
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert all(np.array_equal(a, b) for a, b in zip(orders, group_orders(6, 4, seed=3), strict=True))


@pytest.mark.parametrize(
    "bad",
    [
        lambda model: list(stream(model, [])),
        lambda model: stream(model, iter(photographs())),
        lambda model: stream(model, photographs(), orders=0),
        lambda model: list(stream(model, [np.zeros((32, 32, 3))])),
        lambda model: list(itertools.islice(stream(model, [np.zeros((SIZE, SIZE))]), 1)),
    ],
)
def test_the_error_contains_the_value_of_an_invalid_argument(model, bad):
    with pytest.raises(ValueError, match="Received"):
        bad(model)


@pytest.mark.parametrize("written", [0, 1])
def test_a_full_disk_changes_no_map(model, monkeypatch, written):
    class Full(io.FileIO):
        """A disk that fills up while the features of the third image are written."""

        def write(self, data):
            if self.tell() > 2.5 * size:
                if not written:
                    raise OSError(errno.ENOSPC, "full")
                return super().write(memoryview(data).cast("B")[:written])
            return super().write(data)

    images, size = photographs(), 10_000
    expected = [saliency for saliency, _ in stream(model, images)]
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full(f"{folder}/features", "w+b"))
        maps = [saliency for saliency, _ in stream(model, images, keep_features=9)]
    np.testing.assert_array_equal(maps, expected)
