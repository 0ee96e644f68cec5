import errno
import os

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


def rewrite(path, change):
    """Change the entries of an .npz file."""
    with np.load(path) as file:
        entries = dict(file)
    change(entries)
    np.savez(path, **entries)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_text("not a checkpoint"),
    "array": lambda path: (np.save(f"{path}.npy", np.zeros(3)), os.replace(f"{path}.npy", path)),
    "pickle": lambda path: rewrite(path, lambda entries: entries.update({"model/00000": np.array([{}], object)})),
    "missing state": lambda path: rewrite(path, lambda entries: entries.pop("state.json")),
    "missing array": lambda path: rewrite(path, lambda entries: entries.pop("optimizer/00001")),
    "other array": lambda path: rewrite(path, lambda entries: entries.update({"optimizer/00001": np.zeros(7)})),
    "state is a list": lambda path: rewrite(
        path, lambda entries: entries.update({"state.json": np.frombuffer(b"[1]", np.uint8)})
    ),
    "nested state": lambda path: rewrite(
        path, lambda entries: entries.update({"state.json": np.frombuffer(b"[" * 100_000, np.uint8)})
    ),
    "compression": lambda path: path.write_bytes(unknown_compression(path.read_bytes())),
}


def unknown_compression(data):
    data = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = data.index(signature)
        data[start + offset] = 77
    return bytes(data)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(small_model, tmp_path, damage):
    model, _, _ = small_model
    folder, skipped = CheckpointFolder(tmp_path), []
    folder.write(model, {"step": 1})
    DAMAGES[damage](folder.write(model, {"step": 2}))
    assert folder.newest(skipped.append).state == {"step": 1}
    assert len(skipped) == 1
    assert "step-00000002.npz: damaged checkpoint (" in skipped[0]


def test_flipped_bytes_never_change_the_restored_values(small_model, tmp_path):
    model, _, _ = small_model
    folder = CheckpointFolder(tmp_path)
    first, second = (folder.write(model, {"step": step}) for step in (1, 2))
    expected, data, rng = read(first), second.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=rng.integers(1, 4)):
            damaged[position] ^= 1 << rng.integers(8)
        second.write_bytes(damaged)
        checkpoint = folder.newest()
        # an unused byte may be flipped, such as in a date
        assert checkpoint.state["step"] in (1, 2)
        assert_equal(checkpoint.model + checkpoint.optimizer, expected.model + expected.optimizer)


def test_a_damaged_later_checkpoint_does_not_displace_new_ones(small_model, tmp_path):
    model, _, _ = small_model
    folder = CheckpointFolder(tmp_path, keep=1)
    (tmp_path / "step-00000020.npz").write_bytes(b"damaged")
    for step in (5, 15):
        folder.write(model, {"step": step})
    assert [path.name for path in folder.paths()] == ["step-00000015.npz"]


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


def test_a_different_model_cannot_be_restored(small_model, tmp_path):
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
