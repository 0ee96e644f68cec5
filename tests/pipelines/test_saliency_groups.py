import gc
import itertools
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines import (
    Augment,
    Group,
    ImageSource,
    Pair,
    PipelineDataError,
    SaliencyGroups,
    find_groups,
    read_pair,
    single_images,
)

SIZES = {"a": 9, "b": 4, "c": 6, "d": 2, "e": 5, "f": 7}
CACHES = pytest.mark.parametrize("cache", ["memory", None])


@pytest.fixture
def groups(folders, save_pair):
    for name, size in SIZES.items():
        for number in range(size):
            save_pair(f"{name}/{number}", size=(40 + number, 30))
    return find_groups(images=folders[0], masks=folders[1])


def make(groups, **changes):
    source = {"image_size": 12, "augment": Augment(), "cache": "memory", "cache_size": 16, "progress": None}
    options = {"batch_size": 2, "images_per_group": 6, "seed": 1, "distractors": (0, 2)}
    for name, value in changes.items():
        (source if name in source else options)[name] = value
    return SaliencyGroups(groups, ImageSource(**source), **options)


def arrays(dataset):
    return [(inputs["images"].numpy(), inputs["mask"].numpy(), targets.numpy()) for inputs, targets in dataset]


def assert_same(a, b):
    for batch, other_batch in zip(a, b, strict=True):
        for array, other_array in zip(batch, other_batch, strict=True):
            np.testing.assert_array_equal(array, other_array)


def images_differ(a, b):
    return any((images != other_images).any() for (images, *_), (other_images, *_) in zip(a, b, strict=True))


# Contents of the batches


@CACHES
def test_batches_consist_of_images_a_mask_and_targets(groups, cache):
    data = make(groups, image_size=(12, 16), cache=cache)
    dataset = data.epoch(0)
    assert dataset.element_spec == (
        {"images": tf.TensorSpec((2, 6, 12, 16, 3), tf.float32), "mask": tf.TensorSpec((2, 6), tf.bool)},
        tf.TensorSpec((2, 6, 12, 16, 1), tf.float32),
    )
    assert len(data) == 6
    assert dataset.cardinality() == data.steps_per_epoch == 3
    for images, mask, targets in arrays(dataset):
        assert 200 < images.max() <= 255
        assert images.min() >= 0
        assert targets.max() == 1
        assert targets.min() == 0
        # images are padded at the end, with 0
        assert (mask[:, :-1] >= mask[:, 1:]).all()
        assert mask[:, 0].all()
        assert not images[~mask].any()
        assert not targets[~mask].any()
        assert images[mask].any(axis=(1, 2, 3)).all()


def test_a_keras_model_trains_on_the_dataset(groups):
    import keras

    images = keras.Input((6, 12, 12, 3), name="images")
    mask = keras.Input((6,), dtype="bool", name="mask")
    maps = keras.layers.TimeDistributed(keras.layers.Conv2D(1, 1, activation="sigmoid"))(images)
    valid = keras.layers.Lambda(lambda m: keras.ops.cast(m, "float32")[:, :, None, None, None])(mask)
    model = keras.Model({"images": images, "mask": mask}, keras.layers.Multiply()([maps, valid]))
    model.compile("sgd", "mse")
    data = make(groups)
    history = model.fit(data.training(2), epochs=2, steps_per_epoch=data.steps_per_epoch, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def members_of(data, epoch):
    """Return `data.members(epoch, position)` for all positions of an epoch."""
    return [data.members(epoch, position) for position in range(len(data))]


@CACHES
def test_batches_contain_the_images_listed_by_members(groups, cache):
    data = make(groups, augment=None, cache=cache)
    batches = arrays(data.epoch(3).unbatch())
    for (images, mask, targets), (_, pairs, distractors) in zip(batches, members_of(data, 3), strict=True):
        assert mask.sum() == len(pairs)
        for n, (pair, is_distractor) in enumerate(zip(pairs, distractors, strict=True)):
            image, target = (resize(array, (12, 12)) for array in read_pair(pair))
            np.testing.assert_array_equal(images[n], image)
            np.testing.assert_array_equal(targets[n, ..., 0] * 255, 0 if is_distractor else np.float32(target))


def test_distractors_come_from_other_groups_and_are_a_minority(groups):
    data = make(groups)
    counts = set()
    for epoch in range(20):
        for group, pairs, distractors in members_of(data, epoch):
            assert len(set(pairs)) == len(pairs)
            for pair, is_distractor in zip(pairs, distractors, strict=True):
                assert (pair not in group.pairs) == is_distractor
            members = len(distractors) - sum(distractors)
            assert sum(distractors) <= min(2, members - 1)
            assert members == min(len(group), 6 - sum(distractors))
            counts.add((group.name, sum(distractors)))
    assert counts == {*itertools.product("abcef", range(3)), ("d", 0), ("d", 1)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_distractors_comes_from_hard_negatives(groups, share):
    data = make(groups, distractors=1)
    names = [group.category for group in groups if len(group) > 1]
    hard_negative = names[1]
    data.distractor_sampler.prefer({names[0]: [hard_negative]}, share)
    category_of = {pair: group.category for group in groups for pair in group.pairs}
    drawn = {name: [] for name in names}
    for epoch in range(60):
        for group, pairs, distractors in members_of(data, epoch):
            for pair, is_distractor in zip(pairs, distractors, strict=True):
                if is_distractor:
                    drawn[group.category].append(category_of[pair])
    assert all(other != name for name, others in drawn.items() for other in others)
    assert (set(drawn[names[0]]) == {hard_negative}) == (share == 1.0)
    frequency = np.mean([other == hard_negative for other in drawn[names[0]]])
    assert {0.0: frequency < 0.6, 0.5: 0.45 < frequency < 0.95, 1.0: frequency == 1.0}[share]
    assert len(set(drawn[names[1]])) > 1
    with pytest.raises(ValueError, match="Received: share=2"):
        data.distractor_sampler.prefer({}, 2)


def test_distractors_appear_at_every_position_and_images_in_every_order(groups):
    data = make(groups, distractors=1)
    positions, first = set(), set()
    for epoch in range(60):
        for group, pairs, distractors in members_of(data, epoch):
            if group.name == "a":
                positions.add(distractors.index(True))
                first.add(pairs[0].name)
    assert positions == set(range(6))
    assert len([name for name in first if name.startswith("a/")]) == 9


def test_each_epoch_contains_every_group_once_in_a_new_order(groups):
    data = make(groups)
    orders = [[group.name for group, *_ in members_of(data, epoch)] for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list("abcdef")
    for a, b in itertools.combinations(orders, 2):
        assert a != b


def test_images_of_large_groups_are_drawn_uniformly_in_every_epoch(groups):
    data = make(groups, images_per_group=3, distractors=0)
    counts = Counter(pair for epoch in range(300) for group, pairs, _ in members_of(data, epoch) for pair in pairs)
    draws = [counts[pair] for pair in groups[0].pairs]
    assert sum(draws) == 900
    assert min(draws) > 70
    assert max(draws) < 130


@pytest.mark.parametrize(("share", "images_per_group"), [(1 / 6, 6), (0.25, 5)])
def test_a_share_of_distractors_is_met_on_average(groups, share, images_per_group):
    data = make(groups, distractors=share, images_per_group=images_per_group)
    flags = [
        flag
        for epoch in range(100)
        for group, _, distractors in members_of(data, epoch)
        if len(group) > 2
        for flag in distractors
    ]
    assert np.mean(flags) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("batch_size", [1, 6])
def test_a_group_of_one_image_gets_no_distractors(groups, batch_size):
    data = make(single_images(groups[0].pairs[:2]) + groups[1:], batch_size=batch_size)
    for group, pairs, distractors in members_of(data, 0):
        if len(group) == 1:
            assert pairs == list(group.pairs)
            assert distractors == [False]


# Sources of distractors


def test_masks_of_the_distractor_pool_are_ignored(groups, tmp_path):
    pool = []
    for number in range(3):
        Image.new("RGB", (30, 20), (250, 0, 0)).save(tmp_path / f"red{number}.png")
        mask = None if number else tmp_path / "nothing.png"
        pool.append(Pair(f"red{number}", tmp_path / f"red{number}.png", mask))
    for cache in ("memory", None):
        data = make(groups, distractors=2, distractor_pool=pool, cache=cache, augment=None)
        batches = arrays(data.epoch(0).unbatch())
        for (images, _, targets), (_, pairs, distractors) in zip(batches, members_of(data, 0), strict=True):
            assert [pair.name.startswith("red") for pair in pairs] == distractors
            for n in np.flatnonzero(distractors):
                assert (images[n] == [250, 0, 0]).all()
                assert not targets[n].any()


def test_a_group_never_draws_its_own_images_from_the_pool(groups):
    data = make(groups, distractors=2, distractor_pool=[*groups[0].pairs, *groups[2].pairs])
    for epoch in range(20):
        for group, pairs, distractors in members_of(data, epoch):
            drawn = {pair.name[0] for pair, is_distractor in zip(pairs, distractors, strict=True) if is_distractor}
            assert drawn <= {"a", "c"} - {group.name}


def test_distractors_never_have_the_category_of_the_group(groups):
    groups = [Group(group.name, group.pairs, category="animal" if group.name in "abc" else "") for group in groups]
    data = make(groups, distractors=2)
    for epoch in range(20):
        for group, pairs, distractors in members_of(data, epoch):
            drawn = {pair.name[0] for pair, is_distractor in zip(pairs, distractors, strict=True) if is_distractor}
            assert not drawn & set("abc" if group.name in "abc" else group.name)


def test_a_link_to_an_image_of_the_group_is_not_a_distractor(groups, tmp_path):
    linked = tmp_path / "again.jpg"
    linked.symlink_to(groups[1].pairs[0].image)
    other = Group("z", (Pair("z/again", linked, groups[1].pairs[0].mask), *groups[0].pairs[:1]))
    data = make([groups[1], other], batch_size=1, distractors=1)
    for epoch in range(20):
        for group, pairs, _ in members_of(data, epoch):
            if group.name == "b":
                assert "z/again" not in [pair.name for pair in pairs]


def test_listed_distractors_are_used_in_evaluation_only(groups):
    group = Group("x", (*groups[0].pairs[:3], groups[1].pairs[0]), (False, True, False, False))
    data = make([group], batch_size=1, distractors=0, augment=None)
    for epoch in range(5):
        ((_, pairs, distractors),) = members_of(data, epoch)
        assert sorted(pairs) == sorted(group.own)
        assert not any(distractors)
    ((_, mask, targets),) = arrays(data.evaluation())
    assert mask.shape == (1, 4)
    assert [bool(target.any()) for target in targets[0]] == [True, False, True, True]


# Evaluation


@CACHES
@pytest.mark.parametrize("augment", [None, Augment()])
def test_evaluation_yields_all_images_in_order_padded_to_the_largest_group(groups, cache, augment):
    data = make(groups, augment=augment, cache=cache, batch_size=4)
    batches = arrays(data.evaluation())
    assert [mask.shape for _, mask, _ in batches] == [(4, 9), (2, 7)]
    rows = [row for batch in batches for row in zip(*batch, strict=True)]
    for group, (images, mask, targets) in zip(groups, rows, strict=True):
        assert mask.sum() == len(group)
        for n, pair in enumerate(group.pairs):
            image, target = (resize(array, (12, 12)) for array in read_pair(pair))
            np.testing.assert_array_equal(images[n], image)
            np.testing.assert_array_equal(targets[n, ..., 0], np.float32(target) / np.float32(255))


def test_evaluation_splits_groups_into_parts_of_nearly_equal_size(groups):
    data = make(groups, augment=None, batch_size=1)
    batches = arrays(data.evaluation(images_per_group=4))
    assert {mask.shape for _, mask, _ in batches} == {(1, 4)}
    assert [int(mask.sum()) for _, mask, _ in batches] == [3, 3, 3, 4, 3, 3, 2, 3, 2, 4, 3]
    whole = arrays(data.evaluation())
    joined = np.concatenate([images[mask] for images, mask, _ in batches])
    np.testing.assert_array_equal(joined, np.concatenate([images[mask] for images, mask, _ in whole]))


# Batches are a pure function of (seed, epoch, step)


@CACHES
@pytest.mark.parametrize("workers", [1, 3])
def test_a_new_instance_yields_the_same_batches(groups, cache, workers):
    assert_same(arrays(make(groups, cache=cache).epoch(3)), arrays(make(groups, cache=cache, workers=workers).epoch(3)))


@CACHES
def test_starting_at_a_step_equals_skipping_the_steps_before_it(groups, cache):
    whole = arrays(make(groups, cache=cache).epoch(2))
    for start in range(4):
        assert_same(arrays(make(groups, cache=cache).epoch(2, start)), whole[start:])


def test_skipped_steps_are_not_decoded(groups, monkeypatch):
    data = make(groups, cache=None, workers=1)
    read = []
    monkeypatch.setattr(
        "keras_recnet.pipelines.image_source.read_pair", lambda pair, *rest: read.append(pair) or read_pair(pair, *rest)
    )
    arrays(data.epoch(0, 2))
    assert read == [pair for position in (4, 5) for pair in data.members(0, position)[1]]


def test_training_concatenates_the_epochs(groups):
    data = make(groups)
    joined = [*arrays(data.epoch(1, 1)), *arrays(data.epoch(2))]
    assert_same(arrays(data.training(3, start_epoch=1, start_step=1)), joined)


@pytest.mark.parametrize("seed", [2, -1, 0, 2**70])
def test_a_different_seed_yields_different_batches(groups, seed):
    assert images_differ(arrays(make(groups).epoch(0)), arrays(make(groups, seed=seed).epoch(0)))


def test_groups_do_not_depend_on_the_batch_size(groups):
    batches, other_batches = (arrays(make(groups, batch_size=size).epoch(5).unbatch()) for size in (1, 3))
    assert_same(batches, other_batches)


def test_the_remainder_is_dropped_or_kept(groups):
    assert [len(mask) for _, mask, _ in arrays(make(groups, batch_size=4).epoch(0))] == [4]
    kept = make(groups, batch_size=4, drop_remainder=False)
    assert [len(mask) for _, mask, _ in arrays(kept.epoch(0))] == [4, 2]


def test_each_image_of_a_group_is_augmented_differently(folders, save_pair):
    save_pair("g/0")
    for name in "123":
        for folder, extension in zip(folders, (".jpg", ".png"), strict=True):
            (folder / f"g/{name}{extension}").write_bytes((folder / f"g/0{extension}").read_bytes())
    ((images, *_),) = arrays(
        make(find_groups(images=folders[0], masks=folders[1]), batch_size=1, distractors=0).epoch(0)
    )
    for a, b in itertools.combinations(images[0, :4], 2):
        assert (a != b).any()


# Lifetime and errors


def test_an_image_in_several_groups_is_cached_once(groups):
    seen = []
    again = Group("again", groups[0].pairs)
    make([*groups, again], progress=lambda *step: seen.append(step))
    assert seen[-1] == (sum(SIZES.values()),) * 2


def test_a_tf_dataset_outlives_its_saliency_groups(groups):
    expected = arrays(make(groups).evaluation())
    dataset = make(groups).evaluation()
    gc.collect()
    assert_same(arrays(dataset), expected)


def test_filling_the_cache_reports_all_unusable_files(groups):
    groups[0].pairs[3].mask.write_bytes(b"")
    groups[1].pairs[1].image.write_bytes(b"")
    with pytest.raises(PipelineDataError) as caught:
        make(groups)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "6 groups do not fill a batch"),
        ({"batch_size": 0}, "`batch_size` and `workers` must be 1 or more"),
        ({"images_per_group": 0}, "`images_per_group` must be 1 or more"),
        ({"cache": "disk"}, "`cache` must be one of"),
        ({"augment": True}, "`augment` must be an `Augment` or None"),
        ({"distractors": 3}, "`distractors` must be a number, a range"),
        ({"distractors": -1}, "`distractors` must be a number, a range"),
        ({"distractors": (2, 1)}, "`distractors` must be a number, a range"),
        ({"distractors": 0.5}, "`distractors` must be a number, a range"),
        ({"distractors": 0.1, "images_per_group": 2}, "`distractors` must be a number, a range"),
        ({"distractor_pool": []}, "`distractors` needs images of other groups"),
    ],
)
def test_invalid_arguments_raise_errors(groups, changes, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        make(groups, **changes)


def test_distractors_require_another_group(groups):
    with pytest.raises(ValueError, match="Received: 1 groups of 1 categories, distractor_pool=None"):
        make(groups[:1], batch_size=1)


def test_at_least_one_group_is_required():
    with pytest.raises(ValueError, match=r"Received: groups=\[\]"):
        make([])


def test_evaluation_requires_at_least_one_image_per_group(groups):
    with pytest.raises(ValueError, match="Received: images_per_group=0"):
        make(groups).evaluation(images_per_group=0)
