import gc
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_recnet.imaging.resizing import resize
from keras_recnet.parallel import Shard
from keras_recnet.pipelines import (
    Augment,
    CompositePair,
    Group,
    ImageSource,
    Pair,
    PipelineDataError,
    SaliencyGroups,
    batches,
    find_groups,
    plan_composites,
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
    """Return `(group, pairs, whether each is a distractor)` for all positions of an epoch."""
    members = [data.members(epoch, position) for position in range(len(data))]
    return [(group, pairs, [index is None for index in objects]) for group, pairs, objects in members]


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


# Categories, small groups and composites


def with_categories(groups):
    """The groups with the categories x (a, b: 13 images), y (c, d: 8), e (5) and f (7)."""
    categories = {"a": "x", "b": "x", "c": "y", "d": "y"}
    return [Group(group.name, group.pairs, category=categories.get(group.name, "")) for group in groups]


def test_whole_categories_are_groups_of_all_their_images(groups):
    data = make(with_categories(groups), category_share=1.0, distractors=2)
    drawn = {}
    for epoch in range(60):
        for group, pairs, distractors in members_of(data, epoch):
            for pair, is_distractor in zip(pairs, distractors, strict=True):
                assert (pair.name[0] not in {"x": "ab", "y": "cd"}.get(group.name, group.name)) == is_distractor
                if not is_distractor:
                    drawn.setdefault(group.name, set()).add(pair.name)
    assert {name: len(names) for name, names in drawn.items()} == {"x": 13, "y": 8, "e": 5, "f": 7}


def test_batches_have_the_number_of_the_group_and_its_objects(groups):
    data = make(with_categories(groups), category_share=0.5, distractors=1, group_numbers=True)
    assert data.group_names == ["a", "b", "c", "d", "e", "f", "x", "y"]
    for inputs, targets in data.epoch(0).as_numpy_iterator():
        np.testing.assert_array_equal(inputs["objects"], targets)
    numbers = [number for inputs, _ in data.epoch(1).as_numpy_iterator() for number in inputs["group"]]
    assert numbers == [data.group_names.index(group.name) for group, *_ in members_of(data, 1)]
    assert len(set(numbers)) > 1
    assert set(next(iter(data.evaluation()))[0]) == {"images", "mask"}


def test_groups_are_drawn_in_proportion_to_the_root_of_their_size(groups):
    data = make(with_categories(groups), category_share=0.4, distractors=0)
    names = Counter(group.name for epoch in range(700) for group, *_ in members_of(data, epoch))
    total = sum(names.values())
    single = np.sqrt(list(SIZES.values()))
    expected = dict(zip(SIZES, 0.6 * single / single.sum(), strict=True))
    for name, size in {"x": 13, "y": 8, "e": 5, "f": 7}.items():
        share = 0.4 * np.sqrt(size) / sum(np.sqrt([13, 8, 5, 7]))
        expected[name] = expected.get(name, 0) + share
    for name, share in expected.items():
        assert names[name] / total == pytest.approx(share, abs=0.03)


def test_a_share_of_the_groups_is_small(groups):
    data = make(groups[:1] + groups[2:3], batch_size=1, small_group_share=0.5, distractors=0)
    sizes = Counter(len(pairs) for epoch in range(400) for _, pairs, _ in members_of(data, epoch))
    assert set(sizes) == {2, 3, 4, 5, 6}
    for size in (2, 3, 4, 5):  # a tenth each
        assert sizes[size] / 800 == pytest.approx(0.1, abs=0.03)


def test_small_groups_have_fewer_distractors_than_images_of_the_group(groups):
    data = make(groups, small_group_share=1.0, distractors=2)
    for epoch in range(40):
        for group, pairs, distractors in members_of(data, epoch):
            own = len(pairs) - sum(distractors)
            assert sum(distractors) < own
            assert own >= 2
            assert len({pair.name for pair in pairs}) == len(pairs)
            assert own <= len(group)


COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}


@pytest.fixture
def colored(folders):
    """A group of four images per color: a rectangle of this color on gray."""
    for number, (name, color) in enumerate(COLORS.items()):
        for index in range(4):
            image, mask = np.full((40, 50, 3), 110, np.uint8), np.zeros((40, 50), np.uint8)
            area = np.s_[8 + index : 26 + index, 10 + 3 * number : 28 + 3 * number]
            image[area], mask[area] = color, 255
            for folder, pixels in zip(folders, (image, mask), strict=True):
                (folder / name).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return find_groups(images=folders[0], masks=folders[1])


def of_color(image, name):
    return np.abs(image - np.array(COLORS[name])).max(axis=-1) < 60


@CACHES
def test_the_mask_of_a_composite_shows_the_object_of_the_group(colored, cache):
    composites = plan_composites(colored, 40, seed=3)
    augment = Augment(brightness=0, contrast=0, saturation=0, min_crop=0.9)
    options = {"composites": composites, "composite_share": 0.6, "images_per_group": 6, "batch_size": 1}
    data = make(colored, image_size=48, cache_size=56, augment=augment, cache=cache, **options)
    seen = Counter()
    for epoch in range(4):
        batches = arrays(data.epoch(epoch).unbatch())
        for position, (images, _, targets) in enumerate(batches):
            group, pairs, objects = data.members(epoch, position)
            for n, (pair, index) in enumerate(zip(pairs, objects, strict=True)):
                target = targets[n, ..., 0] > 0.5
                if index is None:
                    assert not target.any()
                    assert not of_color(images[n], group.name).any()
                else:
                    # pixels at the edges have blended colors
                    assert (of_color(images[n], group.name) & target).sum() > 0.6 * target.sum() > 0
                    assert (of_color(images[n], group.name) & ~target).sum() < 0.2 * target.sum()
                    others = sum(of_color(images[n], name).any() for name in COLORS if name != group.name)
                    assert others == isinstance(pair, CompositePair)
                seen[isinstance(pair, CompositePair), index] += 1
    assert set(seen) == {(False, 0), (False, None), (True, 0), (True, 1), (True, None)}


def test_composites_have_their_share_of_the_groups_images_and_of_distractors(groups):
    groups = groups[:1] + groups[2:3] + groups[5:]
    data = make(groups, composites=plan_composites(groups, 60), composite_share=0.4, batch_size=1, distractors=2)
    own, distractors = [], []
    for epoch in range(150):
        for _, pairs, flags in members_of(data, epoch):
            for pair, is_distractor in zip(pairs, flags, strict=True):
                (distractors if is_distractor else own).append(isinstance(pair, CompositePair))
    assert np.mean(own) == pytest.approx(0.4, abs=0.03)
    assert np.mean(distractors) == pytest.approx(0.4, abs=0.05)


def test_groups_with_few_images_are_filled_with_composites(groups):
    data = make(groups, composites=plan_composites(groups, 200), composite_share=0.2, distractors=0)
    for group, pairs, _ in members_of(data, 0):
        assert len(pairs) == 6
        plain = [pair for pair in pairs if not isinstance(pair, CompositePair)]
        assert len(plain) <= len(group)


def test_an_image_and_a_composite_with_it_are_in_one_group_only_if_other_images_are_missing(groups):
    data = make(groups, composites=plan_composites(groups, 12), composite_share=0.4, images_per_group=4, distractors=0)
    for epoch in range(30):
        for position in range(len(data)):
            group, pairs, objects = data.members(epoch, position)
            members = zip(pairs, objects, strict=True)
            parts = {(pair.first, pair.second)[index] for pair, index in members if isinstance(pair, CompositePair)}
            plain = {pair for pair in pairs if not isinstance(pair, CompositePair)}
            assert not parts & plain or len(group) - len(parts) < len(plain)


def test_images_with_several_objects_are_neither_distractors_nor_in_composites(groups):
    groups = [replace(group, several_objects=group.name == "a") for group in groups]
    composites = plan_composites(groups, 100)
    assert not any(pair.name.startswith("a") for c in composites for pair in (c.first, c.second))
    data = make(groups, composites=composites, distractors=2)
    names = {group.name for group, *_ in members_of(data, 0)}
    assert "a" in names
    for epoch in range(20):
        for _, pairs, distractors in members_of(data, epoch):
            drawn = [pair for pair, is_distractor in zip(pairs, distractors, strict=True) if is_distractor]
            assert not any(pair.name.startswith("a") for pair in drawn)


def test_no_image_of_its_category_is_a_distractor_of_a_group_not_even_in_a_composite(groups):
    groups = with_categories(groups)
    category_of = {pair: group.category for group in groups for pair in group.pairs}
    options = {"composites": plan_composites(groups, 100), "category_share": 0.5, "small_group_share": 0.2}
    data = make(groups, distractors=2, **options)
    for epoch in range(30):
        for position in range(len(data)):
            group, pairs, objects = data.members(epoch, position)
            assert len(set(pairs)) == len(pairs)
            for pair, index in zip(pairs, objects, strict=True):
                parts = [pair.first, pair.second] if isinstance(pair, CompositePair) else [pair]
                categories = [category_of[part] for part in parts]
                assert categories.count(group.category) == (index is not None)
                if index is not None:
                    assert parts[index] in group.own


def make_mixed(groups, **changes):
    groups = with_categories(groups)
    options = {"composites": plan_composites(groups, 30), "category_share": 0.5, "small_group_share": 0.3}
    return make(groups, **options, **changes)


@CACHES
def test_batches_with_categories_and_composites_are_a_pure_function(groups, cache):
    whole = arrays(make_mixed(groups, cache=cache).epoch(2))
    data = make_mixed(groups, cache=cache, workers=3)
    arrays(data.epoch(0))
    for start in range(4):
        assert_same(arrays(data.epoch(2, start)), whole[start:])
    assert_same(
        arrays(make_mixed(groups, cache=cache, batch_size=1).epoch(2).unbatch()), arrays(data.epoch(2).unbatch())
    )
    assert images_differ(whole, arrays(make_mixed(groups, cache=cache, seed=2).epoch(2)))


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
        ({"category_share": 1.5}, "`category_share` must be in 0…1"),
        ({"small_group_share": -1}, "`small_group_share` must be in 0…1"),
        ({"composite_share": 1.0}, "`composite_share` must be 0 or more and below 1"),
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


# Parts of several processes


def test_the_parts_of_two_processes_form_the_batches(groups):
    whole, parts = make(groups), [make(groups), make(groups)]
    for index, part in enumerate(parts):
        part.shard = Shard(index, 2)
        assert part.epoch(2).element_spec[1].shape == (1, 6, 12, 12, 1)
    for batch, first, second in zip(*(arrays(data.epoch(2)) for data in (whole, *parts)), strict=True):
        assert_same([batch], [tuple(np.concatenate(halves) for halves in zip(first, second, strict=True))])
    first, second = (arrays(part.evaluation()) for part in parts)
    assert_same([first[0], second[0], first[1]], arrays(whole.evaluation()))


def test_batches_without_tensorflow_are_the_same(groups, monkeypatch):
    def all_batches():
        data = make(groups, group_numbers=True)
        return [*data.epoch(1).as_numpy_iterator(), *data.evaluation().as_numpy_iterator()]

    with_tensorflow = all_batches()
    monkeypatch.setattr(batches, "tf", None)
    for (inputs, targets), (other_inputs, other_targets) in zip(with_tensorflow, all_batches(), strict=True):
        assert list(inputs) == list(other_inputs)
        for array, other in zip([*inputs.values(), targets], [*other_inputs.values(), other_targets], strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)
