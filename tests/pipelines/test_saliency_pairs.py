import gc
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_recnet.imaging import reading as imaging
from keras_recnet.imaging.resizing import resize
from keras_recnet.parallel import Shard
from keras_recnet.pipelines import (
    Augment,
    PipelineDataError,
    SaliencyPairs,
    batches,
    find_pairs,
    image_source,
    read_pair,
)

COUNT = 11
CACHES = pytest.mark.parametrize("cache", ["memory", None])


@pytest.fixture
def pairs(folders, save_pair):
    for number in range(COUNT):
        save_pair(f"{number:02}", size=(40 + number, 30))
    return find_pairs(*folders)


def make(pairs, **changes):
    arguments = {"image_size": 16, "batch_size": 4, "seed": 1, "augment": Augment(), "cache_size": 20, **changes}
    return SaliencyPairs(pairs, **arguments)


def arrays(dataset):
    return [(images.numpy(), masks.numpy()) for images, masks in dataset]


def assert_same(one, other):
    for (images, masks), (other_images, other_masks) in zip(one, other, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(masks, other_masks)


def differ(one, other):
    return any((images != other_images).any() for (images, _), (other_images, _) in zip(one, other, strict=True))


@pytest.fixture
def without_tensorflow(monkeypatch):
    monkeypatch.setattr(batches, "tf", None)


# Contents of the batches


@CACHES
def test_batches_hold_images_in_0_255_and_masks_in_0_1(pairs, cache):
    data = make(pairs, image_size=(12, 16), cache=cache)
    dataset = data.epoch(0)
    assert dataset.element_spec == (
        tf.TensorSpec((4, 12, 16, 3), tf.float32),
        tf.TensorSpec((4, 12, 16, 1), tf.float32),
    )
    assert dataset.cardinality() == data.steps_per_epoch == 2
    for images, masks in arrays(dataset):
        assert 200 < images.max() <= 255
        assert images.min() >= 0
        assert masks.max() == 1
        assert masks.min() == 0
        # the edges of resized masks are soft
        assert ((masks > 0) & (masks < 1)).any()


@CACHES
def test_without_augmentation_an_image_is_resized_once_from_its_file(pairs, cache):
    (images, masks), *_ = arrays(make(pairs, augment=None, cache=cache).evaluation())
    for image, mask, pair in zip(images, masks, pairs, strict=False):
        expected, expected_mask = (resize(array, (16, 16)) for array in read_pair(pair))
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mask[..., 0], np.float32(expected_mask) / np.float32(255))
        # prediction resizes in the same way
        np.testing.assert_array_equal(image, imaging.read(pair.image, fit=(16, 16)).rgb)


@CACHES
def test_evaluation_has_all_pairs_in_order_with_a_smaller_last_batch(pairs, cache):
    plain = arrays(make(pairs, augment=None, cache=cache).evaluation())
    assert [len(images) for images, _ in plain] == [4, 4, 3]
    # with augmentation the cached images have a different size, so evaluation reads the files
    assert_same(arrays(make(pairs, cache=cache).evaluation()), plain)
    one_by_one = make(pairs, augment=None, cache=cache, batch_size=1)
    assert_same(arrays(one_by_one.evaluation().unbatch()), [(i, m) for b in plain for i, m in zip(*b, strict=True)])
    assert len(one_by_one) == COUNT


def test_evaluation_has_all_pairs_even_if_they_do_not_fill_a_batch(pairs):
    ((images, _),) = arrays(make(pairs, batch_size=COUNT + 1, drop_remainder=False).evaluation())
    assert len(images) == COUNT


# Batches are a pure function of (seed, epoch, step)


@CACHES
@pytest.mark.parametrize("workers", [1, 3])
def test_a_new_data_set_yields_the_same_batches(pairs, cache, workers):
    assert_same(arrays(make(pairs, cache=cache).epoch(3)), arrays(make(pairs, cache=cache, workers=workers).epoch(3)))


@CACHES
def test_starting_at_a_step_equals_skipping_the_steps_before_it(pairs, cache):
    data = make(pairs, batch_size=2, cache=cache)
    whole = arrays(data.epoch(2))
    for start in range(data.steps_per_epoch + 1):
        assert_same(arrays(make(pairs, batch_size=2, cache=cache).epoch(2, start)), whole[start:])


def test_skipped_steps_are_not_decoded(pairs, monkeypatch):
    data = make(pairs, batch_size=2, cache=None, workers=1)
    read = []
    monkeypatch.setattr(image_source, "read_pair", lambda pair, *rest: read.append(pair.name) or read_pair(pair, *rest))
    arrays(data.epoch(0, data.steps_per_epoch - 1))
    assert len(read) == 2


def test_training_concatenates_the_epochs(pairs):
    data = make(pairs)
    joined = [*arrays(data.epoch(1, 1)), *arrays(data.epoch(2)), *arrays(data.epoch(3))]
    dataset = data.training(4, start_epoch=1, start_step=1)
    assert dataset.cardinality() == len(joined) == 5
    assert_same(arrays(dataset), joined)


@pytest.mark.parametrize("change", [{"seed": 2}, {"seed": -1}, {"seed": 2**70}, {"seed": 0}])
def test_a_different_seed_yields_different_batches(pairs, change):
    assert differ(arrays(make(pairs).epoch(0)), arrays(make(pairs, **change).epoch(0)))


def order_of(data, epoch):
    """Indices of the pairs in the order of an epoch."""
    known = [image.tobytes() for image, _ in arrays(data.evaluation().unbatch())]
    return [known.index(image.tobytes()) for image, _ in arrays(data.epoch(epoch).unbatch())]


def test_every_epoch_has_each_pair_once_in_a_new_order(pairs):
    data = make(pairs, augment=None, drop_remainder=False)
    orders = [order_of(data, epoch) for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list(range(COUNT))
    for one, other in itertools.combinations(orders, 2):
        assert one != other


def test_the_remainder_is_dropped_or_kept(pairs):
    assert [len(images) for images, _ in arrays(make(pairs).epoch(0))] == [4, 4]
    assert [len(images) for images, _ in arrays(make(pairs, drop_remainder=False).epoch(0))] == [4, 4, 3]


def test_samples_do_not_depend_on_the_batch_size(pairs):
    one, other = (arrays(make(pairs, batch_size=size).epoch(5).unbatch()) for size in (2, 5))
    assert_same(one, other)


def test_epochs_are_augmented_differently(folders, save_pair):
    save_pair("a")
    data = make(find_pairs(*folders), batch_size=1)
    assert differ(arrays(data.epoch(0)), arrays(data.epoch(1)))


@CACHES
def test_image_and_mask_are_augmented_alike(folders, cache):
    """Each image is a copy of its mask, so the two must be equal in every batch."""
    for number in range(6):
        gray = resize(np.random.default_rng(number).integers(0, 256, (5, 5), np.uint8), (40, 50))
        for folder in folders:
            Image.fromarray(gray).save(folder / f"{number}.png")
    data = make(find_pairs(*folders), augment=Augment(brightness=0, contrast=0, saturation=0), cache=cache)
    for image, mask in arrays(data.epoch(0)):
        np.testing.assert_allclose(image[..., :1], mask * 255, atol=1e-3)


# Lifetime and errors


def test_a_tf_dataset_outlives_its_saliency_pairs(pairs):
    expected = arrays(make(pairs).epoch(0))
    dataset = make(pairs).epoch(0)
    gc.collect()
    assert_same(arrays(dataset), expected)
    assert_same(arrays(dataset), expected)


def test_a_file_that_is_deleted_during_training_is_reported(pairs):
    data = make(pairs, cache=None)
    for pair in pairs:
        pair.image.unlink()
    with pytest.raises(tf.errors.OpError, match=r"\d\d\.jpg: no such file"):
        arrays(data.epoch(0))


def test_filling_the_cache_reports_progress_and_names_unusable_files(pairs):
    calls = []
    make(pairs, progress=lambda *step: calls.append(step))
    assert calls == [(done, COUNT) for done in range(1, COUNT + 1)]
    pairs[3].mask.write_bytes(b"")
    with pytest.raises(PipelineDataError, match=r"03\.png: the file is empty"):
        make(pairs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": COUNT + 1}, "11 pairs do not fill a batch"),
        ({"batch_size": 0}, "`batch_size` and `workers` must be 1 or more"),
        ({"workers": 0}, "`batch_size` and `workers` must be 1 or more"),
        ({"cache": "disk"}, "`cache` must be one of"),
        ({"image_size": 0}, "`image_size` must be"),
        ({"image_size": (8, 8, 3)}, "`image_size` must be"),
        ({"cache_size": -1}, "`cache_size` must be"),
        ({"augment": True}, "`augment` must be an `Augment` or None"),
    ],
)
def test_errors_for_invalid_arguments_show_the_received_values(pairs, changes, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        make(pairs, **changes)


def test_at_least_one_pair_is_required():
    with pytest.raises(ValueError, match=r"Received: pairs=\[\]"):
        make([])


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 3)])
def test_a_start_out_of_range_raises_an_error(pairs, epoch, step):
    with pytest.raises(ValueError, match=f"Received: epoch={epoch}, start_step={step}"):
        make(pairs).epoch(epoch, step)


# Parts of several processes


def test_the_parts_of_two_processes_form_the_batches(pairs):
    whole, parts = make(pairs), [make(pairs), make(pairs)]
    for index, part in enumerate(parts):
        part.shard = Shard(index, 2)
        assert part.steps_per_epoch == whole.steps_per_epoch
        assert part.epoch(1).element_spec[0].shape == (2, 16, 16, 3)
    for batch, first, second in zip(*(arrays(data.epoch(1, 1)) for data in (whole, *parts)), strict=True):
        assert_same([batch], [tuple(np.concatenate(halves) for halves in zip(first, second, strict=True))])
    # batches of 4, 4 and 3 images: the first and third for process 0
    first, second = (arrays(part.evaluation()) for part in parts)
    assert [len(images) for images, _ in first] == [4, 3]
    assert_same([first[0], second[0], first[1]], arrays(whole.evaluation()))


# Without TensorFlow


def test_batches_without_tensorflow_are_the_same(pairs, monkeypatch):
    def all_batches():
        data = make(pairs, workers=3)
        return [
            [*data.epoch(1, 1).as_numpy_iterator()],
            [*data.training(2).take(3).as_numpy_iterator()],
            [*data.evaluation().as_numpy_iterator()],
        ]

    with_tensorflow = all_batches()
    monkeypatch.setattr(batches, "tf", None)
    without = all_batches()
    assert [len(part) for part in without] == [1, 3, 3]
    for one, other in zip(with_tensorflow, without, strict=True):
        assert_same(one, other)
    assert {array.dtype for part in without for batch in part for array in batch} == {np.dtype("float32")}


@pytest.mark.usefixtures("without_tensorflow")
def test_without_tensorflow_processes_read_every_second_batch_of_the_evaluation(pairs):
    data = make(pairs)
    whole = list(data.evaluation())
    data.shard = Shard(1, 2)
    assert_same(data.evaluation(), whole[1::2])


@pytest.mark.usefixtures("without_tensorflow")
def test_without_tensorflow_batches_are_indexed_for_fit(pairs):
    dataset = make(pairs).training(3, start_epoch=1)
    assert len(dataset) == 4
    assert_same([dataset[index] for index in range(4)], list(dataset))


@pytest.mark.usefixtures("without_tensorflow")
def test_without_tensorflow_a_deleted_file_is_reported(pairs):
    data = make(pairs, cache=None)
    pairs[0].image.unlink()
    with pytest.raises(PipelineDataError, match=pairs[0].image.name):
        list(data.evaluation())
