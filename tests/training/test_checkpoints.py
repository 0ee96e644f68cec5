import errno

import numpy as np
import pytest

from keras_recnet.errors import DataError, DiskError
from keras_recnet.training import checkpoints
from keras_recnet.training.checkpoints import CheckpointFolder, check_disk, read


def values_of(model):
    return [np.array(variable.numpy()) for variable in (*model.variables, *model.optimizer.variables)]


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_restored_model_continues_exactly(small_model, tmp_path):
    model, x, y = small_model
    folder = CheckpointFolder(tmp_path)
    for _ in range(3):
        model.train_on_batch(x, y)
    folder.write(model, {"step": 3, "note": "text"})
    for _ in range(3):
        model.train_on_batch(x, y)
    expected = values_of(model)

    checkpoint = folder.newest()
    assert checkpoint.state == {"step": 3, "note": "text"}
    checkpoint.restore(model)
    for _ in range(3):
        model.train_on_batch(x, y)
    assert_equal(values_of(model), expected)


def test_the_newest_checkpoints_and_the_best_are_kept(small_model, tmp_path):
    model, _, _ = small_model
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.write_best(model, {"epoch": 1})
    for step in (1, 5, 20):
        folder.write(model, {"step": step})
    assert [path.name for path in folder.paths()] == ["step-00000005.npz", "step-00000020.npz"]
    assert_equal(read(folder.best).model, [variable.numpy() for variable in model.variables])


def test_a_damaged_checkpoint_is_skipped(small_model, tmp_path):
    model, _, _ = small_model
    folder = CheckpointFolder(tmp_path)
    assert folder.newest() is None
    first, second = (folder.write(model, {"step": step}) for step in (1, 2))
    second.write_bytes(second.read_bytes()[:-500])
    assert folder.newest().state["step"] == 1
    first.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"step-00000002.npz: damaged checkpoint[^$]*step-00000001.npz: damaged checkpoint"
    ):
        folder.newest()


def test_earlier_checkpoints_survive_a_full_disk(small_model, tmp_path, monkeypatch):
    model, _, _ = small_model
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.write(model, {"step": 1})

    def full(path, **arrays):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.np, "savez", full)
    with pytest.raises(DiskError, match=r"step-00000002.npz: the disk is full"):
        folder.write(model, {"step": 2})
    assert folder.newest().state["step"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".step-00000003.abcd.npz").write_bytes(b"half")
    (tmp_path / "step-00000002.npz").write_bytes(b"whole")
    CheckpointFolder(tmp_path).remove_unfinished()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.npz"]


def test_restoring_another_model_is_an_error(small_model, tmp_path):
    import keras

    model, _, _ = small_model
    path = CheckpointFolder(tmp_path).write(model, {"step": 1})
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    other.compile("sgd", "mse")
    with pytest.raises(DataError, match="does not fit the model"):
        read(path).restore(other)


def test_free_disk_space_is_checked(small_model, tmp_path):
    model, _, _ = small_model
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.write(model, {"step": 1})
    # AdamW with EMA has three arrays per trainable weight
    weights = sum(int(np.prod(variable.shape)) for variable in model.variables) * 4
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) * 4
    assert folder.bytes_needed(model, slots=3) == 3 * (weights + 3 * trained) + 2 * weights
    assert folder.bytes_used() == sum(path.stat().st_size for path in tmp_path.iterdir()) > weights
    check_disk(tmp_path, 1000)
    with pytest.raises(DiskError, match=rf"{tmp_path}: about 1,000,000,000 MB are needed .* MB free"):
        check_disk(tmp_path, 10**15)
