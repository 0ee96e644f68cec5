"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import dataclasses
import json
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_recnet.errors import DataError, DiskError
from keras_recnet.files import atomic_path

STATE = "state.json"


@dataclasses.dataclass
class Checkpoint:
    """One file `step-NNNNNNNN.npz`, read.

    Attributes:
        path: where it was read from.
        state: what is not an array: step, epoch, step in the epoch, history, configuration.
        model: values of the model's variables, in their order.
        optimizer: values of the optimizer's variables, in their order.
    """

    path: Path
    state: dict
    model: list[np.ndarray]
    optimizer: list[np.ndarray]

    def restore(self, model: keras.Model) -> None:
        """Puts the values into a compiled model of the same architecture.

        Raises:
            DataError: if the model or its optimizer has other variables.
        """
        for kind, variables, values in (
            ("model", model.variables, self.model),
            ("optimizer", model.optimizer.variables, self.optimizer),
        ):
            if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
                raise DataError(
                    f"{self.path}: made for another {kind}: its variables have other shapes. Was the library or the "
                    f"configuration changed since? Start a new run with another `output`."
                )
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


class CheckpointFolder:
    """Writes and reads the checkpoints of one run.

    A checkpoint is written under a temporary name and renamed when it is whole; only then are older ones removed. So a
    kill or a full disk at any moment leaves the one before it.

    Args:
        folder: holds `step-NNNNNNNN.npz` and `best.npz`.
        keep: number of newest checkpoints that stay.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder = Path(folder)
        self.keep = keep
        self.best = self.folder / "best.npz"

    def paths(self) -> list[Path]:
        """The checkpoints, the newest last."""
        return sorted(self.folder.glob("step-*.npz"))

    def write(self, model: keras.Model, state: dict) -> Path:
        """Writes a checkpoint of a compiled model and removes the ones that are older than the newest `keep`.

        Raises:
            DiskError: if the disk is full; the checkpoints before stay.
        """
        path = self.folder / f"step-{state['step']:08d}.npz"
        _write(path, state, {"model": model.variables, "optimizer": model.optimizer.variables})
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def write_best(self, model: keras.Model, state: dict) -> Path:
        """Writes the model's variables as they are now to `best.npz`."""
        _write(self.best, state, {"model": model.variables})
        return self.best

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, or None when there is none.

        Raises:
            DataError: if there are checkpoints and all are damaged.
        """
        damaged = []
        for path in reversed(self.paths()):
            try:
                return read(path)
            except DataError as error:
                damaged.append(str(error))
        if damaged:
            raise DataError("\n".join(damaged))
        return None

    def remove_unfinished(self) -> None:
        """Removes what a killed run left of a checkpoint in the making."""
        for path in self.folder.glob(".*.npz"):
            path.unlink()

    def bytes_needed(self, model: keras.Model, slots: int) -> int:
        """How much disk a run needs: the checkpoints that stay, one in the making, and twice the best.

        Args:
            model: what is trained.
            slots: arrays that the optimizer keeps for each trainable weight.
        """
        weights = sum(_bytes(variable) for variable in model.variables)
        trained = sum(_bytes(variable) for variable in model.trainable_variables)
        return (self.keep + 1) * (weights + slots * trained) + 2 * weights

    def bytes_used(self) -> int:
        """What the checkpoints of this run take already."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npz"))


def read(path: str | os.PathLike) -> Checkpoint:
    """Reads one checkpoint file. Nothing is unpickled.

    Raises:
        DataError: if it is not a whole checkpoint.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            state = json.loads(file[STATE].tobytes().decode("utf-8"))
            arrays = {
                kind: [file[key] for key in sorted(file.files) if key.startswith(f"{kind}/")]
                for kind in ("model", "optimizer")
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not a whole checkpoint ({error}). Remove it; the one before it is used then."
        ) from error
    return Checkpoint(path, state, arrays["model"], arrays["optimizer"])


def check_disk(folder: str | os.PathLike, needed: int) -> None:
    """Refuses to start when the disk of `folder` has less than `needed` bytes free.

    Raises:
        DiskError: naming the folder, what is needed and what is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"{folder}: this run needs about {needed / 1e6:,.0f} MB for checkpoints and logs, the disk has "
            f"{free / 1e6:,.0f} MB free. Free some space, or choose another folder with --set output=FOLDER."
        )


def _bytes(variable) -> int:
    return int(np.prod(variable.shape, dtype=np.int64)) * np.dtype(variable.dtype).itemsize


def _write(path: Path, state: dict, variables: dict[str, list]) -> None:
    arrays = {STATE: np.frombuffer(json.dumps(state).encode("utf-8"), np.uint8)}
    for kind, listed in variables.items():
        for index, variable in enumerate(listed):
            arrays[f"{kind}/{index:05d}"] = keras.ops.convert_to_numpy(variable)
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
