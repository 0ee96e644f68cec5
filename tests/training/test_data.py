import io

import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.training import synthetic
from keras_recnet.training.config.loading import load
from keras_recnet.training.data import names_of
from keras_recnet.training.preparation import prepare
from keras_recnet.training.run import train
from keras_recnet.training.saliency_task import SaliencyTask
from keras_recnet.training.task import warmup_steps


def task_of(*overrides, name="finetune"):
    return SaliencyTask(load(name, ["batch_size=4", *overrides]))


def damage(path):
    """Replace the end of an image's data, which only decoding notices."""
    path.write_bytes(path.read_bytes()[:2000] + np.random.default_rng(0).bytes(100))


class Model:
    """All that `SaliencyTask.build_data` needs of a model."""

    image_size = (32, 64)


def test_a_tenth_is_held_out_and_the_seed_decides_which(photos, tmp_path):
    root = f"data.root={photos}"
    training, validation = task_of(root).find_files(tmp_path)
    assert (len(training), len(validation)) == (18, 2)
    assert not set(names_of(training)) & set(names_of(validation))
    assert names_of(task_of(root).find_files(tmp_path)[1]) == names_of(validation)
    assert names_of(task_of(root, "seed=9").find_files(tmp_path)[1]) != names_of(validation)
    assert len(task_of(root, "data.validation=0.5").find_files(tmp_path)[1]) == 10


def test_names_in_validation_txt_are_held_out(photos, tmp_path):
    (photos / "validation.txt").write_text("0003\n0011\n", encoding="utf-8")
    training, validation = task_of(f"data.root={photos}").find_files(tmp_path)
    assert names_of(validation) == ["0003", "0011"]
    assert len(training) == 18


def test_lists_include_exclude_and_hold_out_names_in_two_folders(photos, tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(f"{index:04d}" for index in range(10)), encoding="utf-8")
    (tmp_path / "bad.txt").write_text("0001\n", encoding="utf-8")
    (tmp_path / "held.txt").write_text("0002\n0019\n", encoding="utf-8")
    training, validation = task_of(
        f"data.images={photos}/images",
        f"data.masks={photos}/masks",
        f"data.list={tmp_path}/train.txt",
        f"data.exclude={tmp_path}/bad.txt",
        f"data.validation={tmp_path}/held.txt",
    ).find_files(tmp_path)
    assert names_of(training) == ["0000", "0003", "0004", "0005", "0006", "0007", "0008", "0009"]
    assert names_of(validation) == ["0002", "0019"]


def test_images_come_from_several_roots(photos, tmp_path):
    synthetic.write(tmp_path / "other/photos", 12, seed=4)
    (photos / "validation.txt").write_text("0003\n0007\n")
    (tmp_path / "some.txt").write_text("0001\n0002\n0003\n")
    entries = [f"{{root: {photos}}}", f"{{root: {tmp_path / 'other/photos'}, list: {tmp_path / 'some.txt'}}}"]
    training, validation = task_of(f"data.roots=[{', '.join(entries)}]").find_files(tmp_path)
    assert names_of(validation) == ["photos-1/0003", "photos-1/0007"]
    assert names_of(training)[-3:] == ["photos-2/0001", "photos-2/0002", "photos-2/0003"]
    assert len(training) == 21
    assert training[-1].image == tmp_path / "other/photos/images/0003.png"
    # without a list of names, a share of all images is held out
    (photos / "validation.txt").unlink()
    training, validation = task_of(f"data.roots=[{', '.join(entries)}]", "data.validation=0.2").find_files(tmp_path)
    assert (len(training), len(validation)) == (18, 5)
    # the same image in two roots
    training, validation = task_of(f"data.roots=[{entries[0]}, {entries[0]}]", "data.validation=0.25").find_files(
        tmp_path
    )
    assert not {pair.image for pair in training} & {pair.image for pair in validation}


def test_synthetic_images_are_written_to_the_output_folder(tmp_path):
    training, validation = task_of(name="smoke").find_files(tmp_path)
    assert (len(training), len(validation)) == (32, 8)
    assert training[0].image.is_relative_to(tmp_path / "shapes")


def test_batches_have_the_input_size(photos, tmp_path):
    task = task_of(f"data.root={photos}")
    data = task.build_data(task.find_files(tmp_path), Model, print)
    images, masks = next(iter(data.training.epoch(0)))
    assert (images.shape, masks.shape) == ((4, 32, 64, 3), (4, 32, 64, 1))
    assert [len(batch) for batch, _ in data.validation.evaluation()] == [2]
    assert len(data.fingerprint) == 16
    other = task_of(f"data.root={photos}", "seed=9")
    assert other.build_data(other.find_files(tmp_path), Model, print).fingerprint != data.fingerprint


def test_samples_are_validation_images_as_in_evaluation(photos, tmp_path):
    task = task_of(f"data.root={photos}", "data.validation=0.5")
    data = task.build_data(task.find_files(tmp_path), Model, print)
    inputs, images, masks = data.samples(3)
    expected = [np.concatenate(arrays)[[0, 4, 9]] for arrays in zip(*data.validation.evaluation(), strict=True)]
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(masks, expected[1])
    assert inputs is images


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ([], ConfigError, "Use --set data.root=FOLDER"),
        (["data.root=nowhere"], DataError, "nowhere: no such folder. data.root must be a folder with the subfolders"),
        (["data.images={photos}/images"], ConfigError, "set both data.images and data.masks"),
        (["data.root={photos}", "data.synthetic=9"], ConfigError, "data.synthetic: draws its own images"),
        (["data.root={photos}", "batch_size=19"], ConfigError, "batch_size: 19 is more than the 18 training images"),
        (["data.root={photos}", "data.validation=nowhere.txt"], DataError, "nowhere.txt: the list cannot be read"),
        (["data.images={photos}/none", "data.masks={photos}/masks"], DataError, "none: the folder of images does not"),
    ],
)
def test_errors_name_the_key_or_file(photos, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message):
        task_of(*(entry.format(photos=photos) for entry in overrides)).find_files(tmp_path)


def test_holding_out_all_images_is_an_error(photos, tmp_path):
    (photos / "validation.txt").write_text("\n".join(f"{index:04d}" for index in range(20)), encoding="utf-8")
    with pytest.raises(DataError, match="20 of 20 images are held out for validation, and none is left"):
        task_of(f"data.root={photos}").find_files(tmp_path)


def test_all_faults_of_the_configuration_and_the_data_are_reported_together(photos, tmp_path):
    (photos / "images" / "0003.png").write_bytes(b"")
    overrides = ["init=gone", f"data.root={photos}", f"output={tmp_path / 'run'}", "optimizer.schedule=poly"]
    with pytest.raises(ConfigError) as info:
        prepare(load("finetune", [*overrides, "batch_size=19"]), "keras-recnet train finetune", True, io.StringIO())
    for message in (
        "no checkpoint to resume from",
        "init: There is no preset and no folder 'gone'",
        "0003.png",
        "batch_size: 19 is more than the 18 training images",
    ):
        assert message in str(info.value)


def test_finetune_works_on_20_pairs(photos, tmp_path):
    config = load("finetune", [f"data.root={photos}", f"output={tmp_path / 'run'}"])
    prepared = prepare(config, "", False, io.StringIO())
    assert prepared.task.steps_per_epoch(prepared.files[0]) == 2
    assert warmup_steps(config.optimizer, 2 * config.epochs) == 2
    config = load("finetune", [f"data.root={photos}", f"output={tmp_path / 'run'}", "optimizer.warmup_steps=20"])
    with pytest.raises(ConfigError, match="warmup_steps: 20 must be less than the 20 training steps"):
        prepare(config, "", False, io.StringIO())


def test_unusable_files_are_reported_before_training(photos, tmp_path):
    (photos / "images" / "0003.png").write_bytes(b"")
    (photos / "masks" / "0005.png").unlink()
    with pytest.raises(DataError, match=r"0005.png: image without mask"):
        task_of(f"data.root={photos}").find_files(tmp_path)
    (photos / "images" / "0005.png").unlink()
    with pytest.raises(DataError, match=r"0003.png"):
        task_of(f"data.root={photos}").find_files(tmp_path)


@pytest.mark.parametrize("cache", ["memory", "null"])
def test_a_damaged_file_is_reported_before_training_with_and_without_the_cache(photos, tmp_path, cache):
    damage(photos / "images" / "0007.png")
    with pytest.raises(DataError, match=r"0007.png"):
        task_of(f"data.root={photos}", f"data.cache={cache}").find_files(tmp_path)


def test_damaged_files_for_training_and_validation_and_a_wrong_key_are_reported_together(photos, tmp_path):
    (photos / "validation.txt").write_text("0002\nabsent\n", encoding="utf-8")
    damage(photos / "images" / "0002.png")
    damage(photos / "images" / "0007.png")
    (photos / "masks" / "0009.png").unlink()
    overrides = [f"data.root={photos}", f"output={tmp_path / 'run'}", "batch_size=4"]
    faults = [
        "0002.png: cannot be decoded",
        "0007.png: cannot be decoded",
        "0009.png: image without mask",
        "line 'absent' of the list: no image of this name",
    ]
    for key, message in {
        "init=gone": "init: There is no preset and no folder 'gone'",
        "batch_siz=4": "batch_siz: unknown key",
        "batch_size=four": "batch_size: ",
    }.items():
        with pytest.raises(ConfigError) as info:
            train("finetune", [*overrides, key], stream=io.StringIO())
        for fault in (message, *faults):
            assert str(info.value).count(fault) == 1, fault
        assert "4 problems in the data" in str(info.value)


def test_a_warm_up_that_is_too_long_is_reported_together_with_damaged_files(photos, tmp_path):
    damage(photos / "images" / "0002.png")
    overrides = [f"data.root={photos}", f"output={tmp_path / 'run'}", "optimizer.warmup_steps=99"]
    with pytest.raises(
        ConfigError, match=r"(?s)warmup_steps: 99 must be less than the 20 training steps.*0002.png: cannot be"
    ):
        train("finetune", overrides, stream=io.StringIO())
