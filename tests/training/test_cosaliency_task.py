import csv
import dataclasses
import io
import threading

import keras
import numpy as np
import pytest
from PIL import Image

from keras_recnet import backbones, pipelines
from keras_recnet.errors import ConfigError, DataError, DiskError
from keras_recnet.files import locked
from keras_recnet.imaging.resizing import resize
from keras_recnet.models import RCAUNet, RecNet
from keras_recnet.training import feature_cache, synthetic
from keras_recnet.training.config.loading import load
from keras_recnet.training.cosaliency_task import CoSaliencyTask
from keras_recnet.training.data import names_of
from keras_recnet.training.embedding import pretrain_embedding
from keras_recnet.training.feature_cache import FeatureSource
from keras_recnet.training.run import train
from keras_recnet.training.session import build_optimizer

from .conftest import tiny_backbone

LISTED = ["data.synthetic=null", "data.validation=null", "batch_size=1"]
TINY = ["init=random", "model.backbone=tiny", "deterministic=false", "samples=0", "tensorboard=false"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    from keras_recnet import backbones

    monkeypatch.setitem(backbones.BACKBONES, "tiny", tiny_backbone)


@pytest.fixture
def smoke(tmp_path):
    def smoke(*overrides, resume=False):
        stream = io.StringIO()
        train("rcau_smoke", [*TINY, f"output={tmp_path / 'run'}", *overrides], resume, stream)
        return stream.getvalue()

    return smoke


def rows_of(output):
    with open(output / "log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.cache=features", "samples=4"],
        ["data.cache=memory", "model.recurrent_unit=mean"],
        ["data.composites={count: 20, share: 0.4}", "data.category_share=0.5", "data.small_group_share=0.2"],
    ],
    ids=["features", "images", "composites"],
)
def test_training_ends_with_a_preset(smoke, tmp_path, overrides):
    text = smoke(*overrides)
    output = tmp_path / "run"
    rows = rows_of(output)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert "9 training groups (36 images), 3 validation groups (12 images); 6 steps of 3 groups" in text
    assert f"keras-recnet cosal FOLDER -o OUT --preset {output / 'preset'}" in text
    assert len(list((output / "samples").glob("*.png"))) == (2 if "samples=4" in overrides else 0)
    model = RCAUNet.from_preset(output / "preset")
    assert model.image_size == (64, 64)


def test_without_validation_all_groups_are_trained_on(smoke, tmp_path):
    text = smoke("data.cache=features", "data.validation=0", "preset.weights=last", "samples=4")
    assert "12 training groups (48 images), no validation; 8 steps of 3 groups" in text
    assert "Last epoch: 2\n" in text
    assert (tmp_path / "run/samples/epoch-002.png").exists()


@pytest.mark.parametrize("cache", ["features", "memory"])
def test_the_edge_version_is_trained_and_fine_tuned_on_features_and_on_images(tmp_path, cache):
    keras.utils.set_random_seed(0)
    recnet = RecNet("tiny", 64, backbone_weights=None, integration_filters=4, attention=None, head_filters=4)
    recnet.save_to_preset(tmp_path / "recnet")
    config = {
        "init": tmp_path / "recnet",
        "data.synthetic": 12,
        "data.validation": 0.25,
        "data.images_per_group": 4,
        "data.distractors": "[0,1]",
        "data.composites": "{count: 10, share: 0.4}",
        "data.cache": cache,
        "model.image_size": 64,
        "model.channels": 8,
        "model.decoder_filters": "[8,8]",
        "batch_size": 3,
        "steps": 6,
        "optimizer.warmup_steps": 0,
        "samples": 0,
        "tensorboard": "false",
        "preset.litert": "false",
        "output": tmp_path / "run",
        "checkpoint.steps": 2,
        "checkpoint.keep": 9,
    }
    config["embedding_steps"] = 2
    if cache == "memory":
        config["loss.classification_weight"] = config["embedding_steps"] = 0
    overrides = [f"{key}={value}" for key, value in config.items()]
    train("rcau_lite0", overrides, False, io.StringIO())
    whole = RCAUNet.from_preset(tmp_path / "run/preset").get_weights()
    # the state after a kill in step 3 of 6
    for path in (tmp_path / "run/checkpoints").iterdir():
        if path.name != "step-00000002.npz":
            path.unlink()
    train("rcau_lite0", overrides, True, stream := io.StringIO())
    assert "2 of 6 steps done" in stream.getvalue()
    trained = RCAUNet.from_preset(tmp_path / "run/preset")
    for before, after in zip(whole, trained.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)
    assert trained.recnet is not None
    source = {weight.path: keras.ops.convert_to_numpy(weight) for weight in recnet.weights}
    for weight in trained.pretrained.weights:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), source[weight.path], atol=1e-3, rtol=1e-3)
    # initially zero
    kernel = next(weight for weight in trained.weights if "gate_and_residual/kernel" in weight.path)
    assert np.abs(keras.ops.convert_to_numpy(kernel)).mean() > 1e-3

    few = {
        key: config[key]
        for key in (*(key for key in config if key.startswith("data.")), "optimizer.warmup_steps", "samples")
    }
    few |= {"init": tmp_path / "run/preset", "data.synthetic": 8, "epochs": 1, "batch_size": 3, "ema": 0.0}
    few |= {"tensorboard": "false", "preset.litert": "false", "output": tmp_path / "tuned"}
    train("finetune_groups", [f"{key}={value}" for key, value in few.items()], False, io.StringIO())
    first, tuned = (RCAUNet.from_preset(tmp_path / name / "preset").decoder.get_weights() for name in ("run", "tuned"))
    assert max(np.abs(new - old).max() for new, old in zip(tuned, first, strict=True)) > 1e-4


def test_the_preset_has_the_weights_of_the_best_epoch(smoke, tmp_path):
    text = smoke("data.cache=features", "preset.weights=best")
    assert "Best epoch:" in text
    weights = RCAUNet.from_preset(tmp_path / "run" / "preset").get_weights()
    best = np.load(tmp_path / "run" / "checkpoints" / "best.npz")
    kept = {best[key].astype("float16").tobytes() for key in best.files if best[key].dtype == "float32"}
    assert all(weight.astype("float16").tobytes() in kept for weight in weights)


def test_a_resumed_run_ends_with_the_same_weights(smoke, tmp_path):
    fixed = ["checkpoint.steps=1", "checkpoint.keep=9"]
    smoke(*fixed)
    whole = RCAUNet.from_preset(tmp_path / "run/preset").get_weights()
    # the state after a kill in step 3 of 6
    for path in (tmp_path / "run/checkpoints").iterdir():
        if path.name != "step-00000002.npz":
            path.unlink()
    assert "2 of 6 steps done" in smoke(*fixed, resume=True)
    for before, after in zip(whole, RCAUNet.from_preset(tmp_path / "run/preset").get_weights(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


def feature_source(tmp_path, model, folder="features", mirrored=True):
    return FeatureSource(model, tmp_path / folder, mirrored=mirrored, log=print)


@pytest.fixture
def groups(tmp_path):
    images, masks = synthetic.write_groups(tmp_path / "photos", 4, seed=1, size=3)
    return pipelines.find_groups(images=images, masks=masks)


@pytest.fixture
def model():
    keras.utils.set_random_seed(2)
    return RCAUNet("tiny", 64, backbone_weights=None, channels=4, decoder_filters=(4, 4, 4, 4), freeze_pretrained=True)


@pytest.fixture
def data(tmp_path, groups, model):
    return pipelines.SaliencyGroups(
        groups, feature_source(tmp_path, model), 2, images_per_group=4, seed=5, distractors=1
    )


def test_batches_hold_the_features_of_their_images(model, data):
    inputs, targets = next(iter(data.epoch(3, 1)))
    names = sorted(model.pretrained.output)
    assert sorted(inputs) == sorted([*names, "mask"])
    views = set()
    for i in range(2):
        _, pairs, objects = data.members(3, 2 + i)
        assert objects.count(None) == 1
        for n, (pair, index) in enumerate(zip(pairs, objects, strict=True)):
            image, mask = (resize(array, (64, 64)) for array in pipelines.read_pair(pair))
            matches = []
            for direction in (1, -1):
                expected = model.pretrained(image[None, :, ::direction].astype("float32"))
                if all(np.allclose(inputs[k][i, n], expected[k][0], atol=5e-3, rtol=2e-3) for k in names):
                    matches.append(direction)
            assert len(matches) == 1
            views.add(matches[0])
            target = binary(mask[:, :: matches[0]]) / 255.0 * (index is not None)
            np.testing.assert_allclose(targets[i, n, ..., 0], target, atol=1e-6)
        assert inputs["mask"][i].numpy().tolist() == [True] * len(pairs) + [False] * (4 - len(pairs))
    assert views == {1, -1}


def test_the_embedding_learns_to_predict_the_imagenet_features(tmp_path, groups, make_group_model):
    pairs = [pair for group in groups for pair in group.pairs]
    teacher = backbones.efficientnet_lite0(64)

    def pretrained(steps):
        model = make_group_model("edge")
        source = FeatureSource(model, tmp_path / "features", mirrored=True, log=print)
        source.open(pairs, workers=1)
        before = {weight.path: np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights}
        pretrain_embedding(model, source, steps, seed=3, log=lines.append)
        changed = {
            weight.path for weight in model.weights if (keras.ops.convert_to_numpy(weight) != before[weight.path]).any()
        }
        return model, changed

    # adding them does not compute the other features again
    FeatureSource(make_group_model("edge"), tmp_path / "features", mirrored=True, log=print).open(pairs, workers=1)
    written = (tmp_path / "features/features.json").stat().st_mtime_ns
    lines = []
    pretrained(1)
    assert (tmp_path / "features/features.json").stat().st_mtime_ns == written
    first = float(lines[-1].split("mean cosine ")[1].split()[0])
    # the features are those of the backbone with ImageNet weights, also of the mirror image
    targets = np.load(tmp_path / "features/imagenet_features/imagenet_features.npy")
    image = resize(pipelines.read_pair(pairs[0])[0], (64, 64))
    for view, pixels in enumerate((image, image[:, ::-1])):
        expected = teacher(pixels[None].astype("float32"))["P5"][0]
        np.testing.assert_allclose(targets[view, 0], expected, atol=5e-2, rtol=1e-2)
    model, changed = pretrained(80)
    assert float(lines[-1].split("mean cosine ")[1].split()[0]) > first + 0.3
    assert changed
    assert all("embedding_" in path for path in changed)
    again, _ = pretrained(80)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def binary(mask):
    return np.where(mask >= 128, 255, 0)


def test_composites_are_cached_with_a_mask_for_each_object(tmp_path, groups, model):
    composites = pipelines.plan_composites(groups, 6, seed=1)
    source = feature_source(tmp_path, model, "composites")
    pairs = [pair for group in groups for pair in group.pairs]
    source.open([*pairs, *composites], workers=1)
    for composite in composites:
        image, *masks = (resize(array, (64, 64)) for array in composite.read(64))
        for mirrored, direction in ((False, 1), (True, -1)):
            features, cached = source.read(composite, mirrored)
            expected = model.pretrained(image[None, :, ::direction].astype("float32"))
            for name, array in features.items():
                np.testing.assert_allclose(array, expected[name][0], atol=5e-3, rtol=2e-3)
            np.testing.assert_array_equal(cached, [binary(mask[:, ::direction]) for mask in masks])
    before = (tmp_path / "composites/masks.npy").stat().st_mtime_ns
    source.open([*pairs, *composites], workers=1)
    assert (tmp_path / "composites/masks.npy").stat().st_mtime_ns == before
    source.open([*pairs, *pipelines.plan_composites(groups, 6, seed=2)], workers=1)
    assert (tmp_path / "composites/masks.npy").stat().st_mtime_ns > before


def test_an_interrupted_computation_is_continued(tmp_path, groups, model, monkeypatch):
    monkeypatch.setattr(feature_cache, "BATCH_SIZE", 2)
    monkeypatch.setattr(feature_cache, "CHUNK", 4)
    pairs = [pair for group in groups for pair in group.pairs]  # 12
    compute, calls = model.pretrained.predict_on_batch, []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 8:  # two views per batch, so six images are done and four of them recorded
            raise KeyboardInterrupt
        return compute(images)

    monkeypatch.setattr(model.pretrained, "predict_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        feature_source(tmp_path, model).open(pairs, workers=1)
    assert not (tmp_path / "features/features.json").exists()
    calls[:] = [0] * 100
    source = feature_source(tmp_path, model)
    source.open(pairs, workers=1)
    assert sum(calls) == 2 * 8
    assert sorted(path.name for path in (tmp_path / "features").glob("*.json")) == ["features.json"]
    for pair in pairs:
        image, mask = (resize(array, (64, 64)) for array in pipelines.read_pair(pair))
        features, (cached,) = source.read(pair)
        np.testing.assert_array_equal(cached, binary(mask))
        for name, array in features.items():
            expected = model.pretrained(image[None].astype("float32"))[name][0]
            np.testing.assert_allclose(array, expected, atol=5e-3, rtol=2e-3)


def test_masks_are_cached_at_the_size_of_the_outputs_without_gray_levels(tmp_path, groups, model, monkeypatch):
    maps = keras.Input((None, 16, 16, 1))
    smaller = keras.Model(maps, keras.layers.Identity()(maps))
    monkeypatch.setattr(model, "from_features", lambda: smaller)
    source = feature_source(tmp_path, model, "small")
    data = pipelines.SaliencyGroups(groups, source, 1, images_per_group=4)
    _, targets = next(iter(data.epoch(0)))
    assert targets.shape == (1, 4, 16, 16, 1)
    pair = groups[0].pairs[0]
    _, (mask,) = source.read(pair)
    resized = resize(resize(pipelines.read_pair(pair)[1], (64, 64)), (16, 16))
    assert len(np.unique(resized)) > 2
    np.testing.assert_array_equal(mask, binary(resized))


def test_features_are_kept_until_the_weights_change(tmp_path, groups, model, data):
    pairs = [pair for group in groups for pair in group.pairs]
    before = (tmp_path / "features/masks.npy").stat().st_mtime_ns
    feature_source(tmp_path, model).open(pairs, workers=1)
    assert (tmp_path / "features/masks.npy").stat().st_mtime_ns == before
    weight = model.pretrained.weights[0]
    weight.assign(weight + 1)
    feature_source(tmp_path, model).open(pairs, workers=1)
    assert (tmp_path / "features/masks.npy").stat().st_mtime_ns > before


def test_features_are_recomputed_if_masks_change_and_open_files_stay_readable(tmp_path, groups, model, data):
    before = np.array(data.source._features.files["masks"])
    path = sorted((tmp_path / "photos").rglob("masks/**/*.png"))[0]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    again = feature_source(tmp_path, model)
    again.open([pair for group in groups for pair in group.pairs], workers=1)
    changed = (np.array(again._features.files["masks"]) != before).reshape(len(before), -1).any(axis=1)
    assert changed.sum() == 1
    np.testing.assert_array_equal(data.source._features.files["masks"], before)


def test_a_distractor_needs_no_mask(tmp_path, groups, model):
    own, distractor = groups[0].pairs, dataclasses.replace(groups[1].pairs[0], mask=None)
    mixed = [pipelines.Group("mixed", (*own, distractor), (*(False for _ in own), True))]
    source = feature_source(tmp_path, model, "mixed", mirrored=False)
    pipelines.SaliencyGroups(mixed, source, 1, images_per_group=4)
    np.testing.assert_array_equal(source._features.files["masks"][-1], 0)
    assert source._features.files["masks"][0].any()


def test_no_training_composite_contains_a_validation_image(tmp_path):
    config = load("rcau_smoke", ["data.composites={count: 60}", "data.category_share=0.5", f"output={tmp_path}"])
    task = CoSaliencyTask(config)
    training, validation = task.find_files(tmp_path)
    data = task._training_groups(training, pipelines.ImageSource(32, cache=None))
    composites = {pair for _, pair in members_of(data) if isinstance(pair, pipelines.CompositePair)}
    held_out = {pair.image for group in validation for pair in group.pairs}
    assert len(held_out) == 12
    parts = {pair.image for composite in composites for pair in (composite.first, composite.second)}
    assert len(parts) > 20
    assert not parts & held_out


def members_of(data):
    """Yield `(group, pair)` of ten epochs."""
    for epoch in range(10):
        for position in range(len(data)):
            group, pairs, _ = data.members(epoch, position)
            for pair in pairs:
                yield group, pair


def save_groups(folder, count, seed, category=None):
    """Write `count` groups of three images and their list; the last group has the split `validation`."""
    images, _ = synthetic.write_groups(folder, count, seed=seed, size=3)
    lines = ["group,name,split,category"]
    for path in sorted(images.rglob("*.png")):
        name = path.relative_to(images).with_suffix("").as_posix()
        group = name.split("/")[0]
        split = "validation" if group == f"group{count - 1:03d}" else "train"
        lines.append(f"{group},{name},{split},{category or ''}")
    (folder / "groups.csv").write_text("\n".join(lines), encoding="utf-8")


def test_groups_come_from_several_roots(tmp_path):
    for folder, count, category in (("one", 3, None), ("two", 4, "shape")):
        save_groups(tmp_path / folder, count, seed=count, category=category)
    (tmp_path / "two/test.csv").write_text(
        (tmp_path / "two/groups.csv").read_text().replace("validation", "test"), encoding="utf-8"
    )
    roots = (
        f"[{{root: {tmp_path / 'one'}}}, {{root: {tmp_path / 'two'}, list: {tmp_path / 'two/test.csv'}, "
        "several_objects: true}]"
    )
    config = load("rcau_smoke", [*LISTED, f"data.roots={roots}"])
    training, validation = CoSaliencyTask(config).find_files(tmp_path / "run")
    assert [group.name for group in training] == [
        *(f"one/group{n:03d}" for n in range(2)),
        *(f"two/group{n:03d}" for n in range(3)),
    ]
    assert [group.name for group in validation] == ["one/group002"]
    # without a category, groups of the same name in two roots have different categories
    assert [group.category for group in training] == ["one/group000", "one/group001", *["shape"] * 3]
    assert [group.several_objects for group in training] == [False] * 2 + [True] * 3
    assert training[0].pairs[0].image == tmp_path / "one/images/group000/0000.png"
    assert training[0].pairs[0].name == "one/group000/0000"


def test_an_image_held_out_in_one_root_is_not_used_for_training_in_another(tmp_path):
    save_groups(tmp_path / "one", 4, seed=1)
    images, masks = tmp_path / "two/images/mixed", tmp_path / "two/masks/mixed"
    for folder, original in ((images, "images"), (masks, "masks")):
        folder.mkdir(parents=True)
        for group in ("group000", "group003"):
            (folder / f"{group}.png").symlink_to(tmp_path / f"one/{original}/{group}/0000.png")
    roots = f"[{{root: {tmp_path / 'one'}}}, {{images: {images.parent}, masks: {masks.parent}}}]"
    config = load("rcau_smoke", [*LISTED, f"data.roots={roots}"])
    training, _ = CoSaliencyTask(config).find_files(tmp_path / "run")
    assert names_of(training[-1].pairs) == ["images/mixed/group000"]


def test_runs_with_different_seeds_use_the_same_cached_features(tmp_path, groups, model):
    def composites(seed):
        config = load("rcau_smoke", [*TINY, "data.composites={count: 20, share: 0.4}", f"seed={seed}"])
        source = feature_source(tmp_path, model)
        CoSaliencyTask(config)._training_groups(groups, source)
        written.append((tmp_path / "features/P5.npy").stat().st_mtime_ns)
        return [pair for pair in source.pairs if isinstance(pair, pipelines.CompositePair)]

    written = []
    assert composites(1) == composites(2) != []
    assert written[0] == written[1]


def test_a_preview_shows_the_images_of_the_first_batches(smoke, tmp_path):
    from keras_recnet.training.run import preview

    overrides = [*TINY, f"output={tmp_path / 'run'}", "data.composites={count: 20, share: 0.4}", "data.distractors=1"]
    stream = io.StringIO()
    folder = preview("rcau_smoke", overrides, 4, stream)
    assert folder == tmp_path / "run/preview"
    assert [path.name for path in sorted(folder.iterdir())] == [f"batch-{n:03d}.png" for n in range(1, 5)]
    assert not (tmp_path / "run/features").exists()
    assert not (tmp_path / "run/checkpoints").exists()
    # the views are those of training on cached features
    task = CoSaliencyTask(load("rcau_smoke", overrides))
    files, model = task.find_files(tmp_path / "run"), task.build_model()
    data = task._training_groups(files[0], FeatureSource(model, tmp_path / "features", mirrored=True, log=print))
    sheets = task.preview(files, model)
    kinds = set()
    for epoch in range(2):
        for inputs, targets in data.epoch(epoch).as_numpy_iterator():
            for (_, cells), mask, target, *features in zip(
                next(sheets),
                inputs["mask"],
                targets,
                *(inputs[name] for name in sorted(data.source.inputs)),
                strict=True,
            ):
                assert len(cells) == mask.sum()
                for n, cell in enumerate(cells):
                    np.testing.assert_array_equal(cell.mask >= 0.5, target[n])
                    kinds.add((cell.distractor, cell.composite))
                    expected = model.pretrained(cell.image[None])
                    for name, array in zip(sorted(data.source.inputs), features, strict=True):
                        np.testing.assert_allclose(array[n], expected[name][0], atol=5e-3, rtol=2e-3)
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}
    # a preview does not touch a run, and needs no --resume
    smoke("steps=2", "epochs=null", "optimizer.warmup_steps=0")
    assert preview("rcau_smoke", overrides, 1, stream) == folder


def test_a_split_halves_the_images_of_each_group(tmp_path):
    parts = {}
    for part in ("train", "test"):
        overrides = ["data.validation=0", "preset.weights=last", f"data.split={{seed: 3, part: {part}}}"]
        groups, validation = CoSaliencyTask(load("rcau_smoke", overrides)).find_files(tmp_path)
        parts[part] = {group.name: names_of(group.pairs) for group in groups}
        assert not validation
    images = tmp_path / "shapes" / "images"
    assert parts["train"].keys() == parts["test"].keys() == {path.name for path in images.iterdir()}
    for name, training in parts["train"].items():
        assert len(training) == len(parts["test"][name]) == 2
        of_group = {f"{name}/{path.stem}" for path in (images / name).iterdir()}
        assert set(training) | set(parts["test"][name]) == of_group
    groups = pipelines.find_groups(images=images, masks=tmp_path / "shapes" / "masks")
    for part, expected in zip(("train", "test"), pipelines.split_groups(groups, seed=3), strict=True):
        assert parts[part] == {group.name: names_of(group.pairs) for group in expected}


def test_fine_tuning_may_repeat_the_arguments_of_its_preset_but_not_change_them(smoke, tmp_path):
    smoke()
    preset = tmp_path / "run" / "preset"
    second = ["data.split={seed: 0}", f"output={tmp_path / 'second'}", f"init={preset}"]
    smoke(*second)  # rcau_smoke has a `model` section
    before, after = (RCAUNet.from_preset(folder).get_weights() for folder in (preset, tmp_path / "second" / "preset"))
    assert all(one.shape == other.shape for one, other in zip(before, after, strict=True))
    assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    with pytest.raises(ConfigError, match=r"model.channels: is 8 in the preset .* Nothing can .* Received: 4, init="):
        smoke(*second, f"output={tmp_path / 'third'}", "model.channels=4")


def test_groups_of_one_image_are_the_last_to_be_held_out(tmp_path):
    images, masks = synthetic.write_groups(tmp_path / "photos", 4, seed=1, size=3)
    for group in sorted(images.iterdir())[1:]:
        for path in sorted(group.iterdir())[1:]:
            path.unlink()
            (masks / group.name / f"{path.stem}.png").unlink()
    overrides = [
        f"data.images={images}",
        f"data.masks={masks}",
        "optimizer.warmup_steps=0",
        f"output={tmp_path / 'run'}",
    ]
    for seed in range(4):
        config = load("rcau_smoke", [*overrides, "data.synthetic=null", "data.validation=0.25", f"seed={seed}"])
        with pytest.warns(UserWarning, match="3 of 4 groups have only one image"):
            _, validation = CoSaliencyTask(config).find_files(tmp_path)
        assert [len(group.own) for group in validation] == [3]


def test_an_output_folder_that_is_a_file_is_an_error(smoke, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"file: a file exists where a folder is needed\. Choose another folder\."):
        smoke(f"output={tmp_path / 'file'}")


def test_a_warm_up_that_is_too_long_is_an_error_before_the_data_is_read(smoke, tmp_path):
    with pytest.raises(ConfigError, match=r"optimizer.warmup_steps: 6 must be less than the 6 training steps"):
        smoke("steps=6", "epochs=null", "optimizer.warmup_steps=6", "optimizer.schedule=cosine")
    assert not (tmp_path / "run").exists()


def test_conflicting_keys_are_errors(smoke, tmp_path):
    single = tmp_path / "single"
    save_groups(single, 4, seed=1, category="shape")
    with pytest.raises(ConfigError, match=r"data.cache: features .* frozen.*model.freeze_pretrained=true"):
        smoke("model.freeze_pretrained=false")
    with pytest.raises(ConfigError, match=r"loss.co_perceptual: needs the images"):
        smoke("loss.co_perceptual={weights: null}")
    with pytest.raises(ConfigError, match=r"loss.classification_weight: is implemented for cached features only"):
        smoke("loss.classification_weight=0.1", "data.cache=memory")
    with pytest.raises(ConfigError, match=r"embedding_steps: is implemented for cached features only"):
        smoke("embedding_steps=9", "data.cache=memory")
    with pytest.raises(ConfigError, match=r"embedding_steps: only the edge version"):
        smoke("embedding_steps=9", "loss.co_perceptual=null")
    with pytest.raises(ConfigError, match=r"loss.classification_weight: only the edge version"):
        smoke("loss.classification_weight=0.1", "loss.co_perceptual=null")
    with pytest.raises(ConfigError, match=r"data: no groups are given"):
        smoke("data.synthetic=null")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        smoke("data.synthetic=null", "data.root=nowhere")
    with pytest.raises(ConfigError, match=r"data.synthetic: draws its own images .* combined with data.root"):
        smoke("data.root=photos")
    with pytest.raises(ConfigError, match=r"data.roots: cannot be combined with data.root\."):
        smoke("data.synthetic=null", "data.root=photos", "data.roots=[{root: other}]")
    with pytest.raises(DataError, match=r"data.roots\[1\].root: nowhere: no such folder"):
        smoke("data.synthetic=null", f"data.roots=[{{root: {tmp_path}}}, {{root: nowhere}}]")
    with pytest.raises(ConfigError, match=r"data.validation: must be a share .* with data.roots.*'names.csv'"):
        smoke("data.synthetic=null", f"data.roots=[{{root: {tmp_path}}}]", "data.validation=names.csv")
    with pytest.raises(ConfigError, match=r"data: `groups` must have images of two categories"):
        smoke(*LISTED, "data.composites={count: 9}", "data.distractors=0", f"data.root={single}")
    with pytest.raises(ConfigError, match=r"batch_size: 99 is more than the 9 training groups"):
        smoke("batch_size=99")


def test_a_list_defines_the_splits_and_held_out_images_are_never_trained_on(tmp_path):
    images, masks = synthetic.write_groups(tmp_path, 9, seed=1, size=3)
    lines = ["group,name,split"]
    for path in sorted(images.rglob("*.png")):
        name = path.relative_to(images).with_suffix("").as_posix()
        lines.append(f"{name.split('/')[0]},{name},{'validation' if name < 'group002' else 'train'}")
    # an image of a held-out group is also in a training group
    lines.append("group008,group000/0000,train")
    (tmp_path / "groups.csv").write_text("\n".join(lines), encoding="utf-8")
    config = load("rcau_smoke", ["data.synthetic=null", "data.validation=null", f"data.root={tmp_path}"])
    training, validation = CoSaliencyTask(config).find_files(tmp_path / "run")
    assert [group.name for group in validation] == ["group000", "group001"]
    assert [group.name for group in training] == [f"group{index:03d}" for index in range(2, 9)]
    assert "group000/0000" not in names_of(training[-1].pairs)
    shares = load("rcau_smoke", ["data.synthetic=null", f"data.images={images}", f"data.masks={masks}"])
    training, validation = CoSaliencyTask(shares).find_files(tmp_path / "run")
    assert (len(training), len(validation)) == (7, 2)


@pytest.mark.parametrize("cache", ["features", "memory", "null"])
def test_damaged_files_for_training_and_validation_and_a_wrong_key_are_reported_together(tmp_path, cache):
    images, _ = synthetic.write_groups(tmp_path, 6, seed=1, size=3)
    names = sorted(path.relative_to(images).with_suffix("").as_posix() for path in images.rglob("*.png"))
    lines = [f"{name.split('/')[0]},{name},{'validation' if name < 'group002' else 'train'}" for name in names]
    text = "\n".join(["group,name,split", *lines, "group000,group000/absent,validation", "group003,,train"])
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    for group in ("group001", "group004"):
        path = images / group / "0001.png"
        path.write_bytes(path.read_bytes()[:1500] + np.random.default_rng(0).bytes(100))
    overrides = ["data.synthetic=null", "data.validation=null", f"data.root={tmp_path}", f"data.cache={cache}"]
    for key, message in {"init=gone": "init: There is no preset", "batch_siz=4": "batch_siz: unknown key"}.items():
        with pytest.raises(ConfigError) as info:
            train("rcau_smoke", [*overrides, f"output={tmp_path / 'run'}", key], stream=io.StringIO())
        for fault in (
            message,
            "group001/0001.png: cannot be decoded",
            "group004/0001.png: cannot be decoded",
            "line 'group000/absent' of the list: no image of this name",
            "groups.csv, line 21: has no name",
        ):
            assert str(info.value).count(fault) == 1, fault


def test_a_split_cannot_be_combined_with_a_list(tmp_path):
    images, _ = synthetic.write_groups(tmp_path, 3, seed=1)
    lines = [f"group00{group},group00{group}/000{index}" for group in range(3) for index in range(4)]
    (tmp_path / "groups.csv").write_text("\n".join(["group,name", *lines]), encoding="utf-8")
    overrides = [*LISTED, f"data.root={tmp_path}", "data.split={part: train}"]
    with pytest.raises(
        ConfigError, match=r"data.split: .* cannot be combined with the list .*groups.csv. Set data.images"
    ):
        CoSaliencyTask(load("rcau_smoke", overrides)).find_files(tmp_path / "run")
    overrides[-2] = f"data.images={images}"
    groups, _ = CoSaliencyTask(load("rcau_smoke", [*overrides, f"data.masks={tmp_path / 'masks'}"])).find_files(
        tmp_path
    )
    assert all(len(group.pairs) == 2 for group in groups)


@pytest.mark.parametrize("name", ["training", "Train", "test"])
def test_a_list_with_splits_but_without_train_is_an_error(tmp_path, name):
    synthetic.write_groups(tmp_path, 3, seed=1)
    lines = [f"group00{group},group00{group}/000{index},{name}" for group in range(3) for index in range(4)]
    (tmp_path / "groups.csv").write_text("\n".join(["group,name,split", *lines]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"no line has the split 'train', only {name}"):
        CoSaliencyTask(load("rcau_smoke", [*LISTED, f"data.root={tmp_path}"])).find_files(tmp_path / "run")


@pytest.mark.parametrize("augment", ["null", "{brightness: 0.4}"])
def test_cached_features_refuse_an_augmentation(smoke, augment):
    with pytest.raises(ConfigError, match=r"data.augment: cached features are those of each image and of its mirror"):
        smoke("data.cache=features", f"data.augment={augment}")


def test_two_runs_that_compute_features_in_one_folder_wait_for_each_other(tmp_path, groups, model):
    lines, sources = [], []

    def compute():
        source = FeatureSource(model, tmp_path / "shared", log=lines.append)
        source.open([pair for group in groups for pair in group.pairs], 1)
        sources.append(source)

    with locked(tmp_path / "shared-lock", on_wait=lambda: None):
        pass
    (tmp_path / "shared").mkdir()
    with locked(tmp_path / "shared" / "lock", on_wait=lambda: None):
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join(timeout=1)
        assert thread.is_alive()
        assert not list((tmp_path / "shared").glob("*.npy"))
    thread.join()
    assert lines[0] == f"Waiting for another run that computes features in {tmp_path / 'shared'}"
    assert sources[0].read(groups[0].pairs[0])[0]


def test_the_edge_version_refuses_arguments_of_a_recurrent_unit(tmp_path):
    RecNet("tiny", 64, backbone_weights=None, integration_filters=4, attention=None, head_filters=4).save_to_preset(
        tmp_path / "recnet"
    )
    overrides = [f"init={tmp_path / 'recnet'}", "model.recurrent_unit=gru", "model.use_bias=true"]
    config = load("rcau_lite0", [*overrides, "model.image_size=64", "data.synthetic=12"])
    with pytest.raises(ConfigError, match=r"without a recurrent unit. Received: recurrent_unit='gru', use_bias=True"):
        CoSaliencyTask(config).build_model()


def test_a_frozen_backbone_needs_no_learning_rate_of_its_own(tmp_path, model):
    model.pretrained.trainable = False
    config = load("rcau_smoke", ["optimizer.backbone_learning_rate=2e-4"])
    assert not model.backbone.trainable_variables
    assert float(build_optimizer(config, model, 10).learning_rate) <= config.optimizer.learning_rate
