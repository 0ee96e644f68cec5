import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.training.config.loading import load
from keras_recnet.training.data import find, prepare


def config_of(*overrides):
    return load("finetune", ["batch_size=4", *overrides])


def names(pairs):
    return [pair.name for pair in pairs]


def test_a_tenth_is_held_out_the_same_for_the_same_seed(photos, tmp_path):
    training, validation = find(config_of(f"data.root={photos}"), tmp_path)
    assert (len(training), len(validation)) == (18, 2)
    assert not set(names(training)) & set(names(validation))
    assert names(find(config_of(f"data.root={photos}"), tmp_path)[1]) == names(validation)
    assert names(find(config_of(f"data.root={photos}", "seed=9"), tmp_path)[1]) != names(validation)
    assert len(find(config_of(f"data.root={photos}", "data.validation=0.5"), tmp_path)[1]) == 10


def test_the_list_in_the_root_is_held_out(photos, tmp_path):
    (photos / "validation.txt").write_text("0003\n0011\n", encoding="utf-8")
    training, validation = find(config_of(f"data.root={photos}"), tmp_path)
    assert names(validation) == ["0003", "0011"]
    assert len(training) == 18


def test_two_folders_a_list_and_an_exclusion(photos, tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(f"{index:04d}" for index in range(10)), encoding="utf-8")
    (tmp_path / "bad.txt").write_text("0001\n", encoding="utf-8")
    (tmp_path / "held.txt").write_text("0002\n0019\n", encoding="utf-8")
    training, validation = find(
        config_of(
            f"data.images={photos}/images",
            f"data.masks={photos}/masks",
            f"data.list={tmp_path}/train.txt",
            f"data.exclude={tmp_path}/bad.txt",
            f"data.validation={tmp_path}/held.txt",
        ),
        tmp_path,
    )
    assert names(training) == ["0000", "0003", "0004", "0005", "0006", "0007", "0008", "0009"]
    assert names(validation) == ["0002", "0019"]


def test_synthetic_shapes_are_drawn_into_the_output(tmp_path):
    training, validation = find(load("smoke"), tmp_path)
    assert (len(training), len(validation)) == (32, 8)
    assert training[0].image.is_relative_to(tmp_path / "shapes")


def test_batches_have_the_model_s_size(photos, tmp_path):
    config = config_of(f"data.root={photos}")
    data = prepare(config, find(config, tmp_path), (32, 64), print)
    images, masks = next(iter(data.training.epoch(0)))
    assert (images.shape, masks.shape) == ((4, 32, 64, 3), (4, 32, 64, 1))
    assert [len(batch) for batch, _ in data.validation.evaluation()] == [2]
    assert len(data.fingerprint) == 16
    other = config_of(f"data.root={photos}", "seed=9")
    assert prepare(other, find(other, tmp_path), (32, 64), print).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ([], ConfigError, "Give --set data.root=FOLDER"),
        (["data.root=nowhere"], DataError, "nowhere: no such folder. data.root is the folder that holds images/"),
        (["data.images={photos}/images"], ConfigError, "data.images and data.masks belong together"),
        (["data.root={photos}", "data.synthetic=9"], ConfigError, "data.synthetic: draws its own images"),
        (["data.root={photos}", "batch_size=19"], ConfigError, "batch_size: 19 is more than the 18 images"),
        (["data.root={photos}", "data.validation=nowhere.txt"], DataError, "nowhere.txt: the list cannot be read"),
        (["data.images={photos}/none", "data.masks={photos}/masks"], DataError, "none: the folder of images does not"),
    ],
)
def test_says_what_is_wrong_with_the_section(photos, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message):
        find(config_of(*(entry.format(photos=photos) for entry in overrides)), tmp_path)


def test_everything_held_out_leaves_nothing_to_train_on(photos, tmp_path):
    (photos / "validation.txt").write_text("\n".join(f"{index:04d}" for index in range(20)), encoding="utf-8")
    with pytest.raises(DataError, match="of 20 images 20 are held out for validation, none is left"):
        find(config_of(f"data.root={photos}"), tmp_path)


def test_faulty_files_are_all_named_before_the_training(photos, tmp_path):
    (photos / "images" / "0003.png").write_bytes(b"")
    (photos / "masks" / "0005.png").unlink()
    with pytest.raises(DataError, match=r"0005.png: image without mask"):
        find(config_of(f"data.root={photos}"), tmp_path)
    (photos / "images" / "0005.png").unlink()
    with pytest.raises(DataError, match=r"0003.png"):
        find(config_of(f"data.root={photos}"), tmp_path)


@pytest.mark.parametrize("cache", ["memory", "null"])
def test_a_damaged_file_is_found_before_the_training_with_and_without_the_cache(photos, tmp_path, cache):
    path = photos / "images" / "0007.png"
    rng = np.random.default_rng(0)
    path.write_bytes(path.read_bytes()[:2000] + rng.bytes(100))
    config = config_of(f"data.root={photos}", f"data.cache={cache}")
    with pytest.raises(DataError, match=r"0007.png"):
        prepare(config, find(config, tmp_path), (64, 64), print)
