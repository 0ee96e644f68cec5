"""Checkpoints: all that is needed to resume a run exactly."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_recnet.errors import DataError, DiskError
from keras_recnet.files import atomic_path

if TYPE_CHECKING:
    import keras

STATE = "state.json"


@dataclasses.dataclass
class Checkpoint:
    """Contents of a file `step-NNNNNNNN.npz`.

    Attributes:
        path: the file.
        state: values that are not arrays: step, epoch, step in the epoch, history, configuration.
        model: values of the model's variables, in order.
        optimizer: values of the optimizer's variables, in order.
    """

    path: Path
    state: dict
    model: list[np.ndarray]
    optimizer: list[np.ndarray]

    def restore(self, model: "keras.Model", more: Sequence = ()) -> None:
        """Assign the values to the variables of a compiled model of the same architecture.

        Args:
            model: the model.
            more: the further variables that were passed to `CheckpointFolder.write`.

        Raises:
            DataError: if the variables of the model or its optimizer have other shapes.
        """
        for kind, variables, values in (
            ("model", [*model.variables, *more], self.model),
            ("optimizer", model.optimizer.variables, self.optimizer),
        ):
            if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
                raise DataError(
                    f"{self.path}: does not fit the {kind}: the shapes of the variables differ. The library or the "
                    f"configuration has changed; start a new run with --set output=FOLDER."
                )
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


class CheckpointFolder:
    """The checkpoints of one run: `step-NNNNNNNN.npz` and `best.npz`.

    Writes are atomic, and older checkpoints are removed only afterwards: whenever the process is killed or the disk is
    full, the previous checkpoint remains.

    Args:
        folder: the folder of the files.
        keep: number of checkpoints to keep, the newest ones.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder = Path(folder)
        self.keep = keep
        self.best = self.folder / "best.npz"

    def paths(self) -> list[Path]:
        """Return the checkpoints, the newest last."""
        return sorted(self.folder.glob("step-*.npz"))

    def write(self, model: "keras.Model", state: dict, more: Sequence = ()) -> Path:
        """Write a checkpoint of a compiled model, and remove all but the newest `keep`.

        Args:
            model: the model.
            state: values that are not arrays, see `Checkpoint`.
            more: variables that are used in training only, and are not part of the model.

        Raises:
            DiskError: if the disk is full; earlier checkpoints are kept.
        """
        path = self.folder / f"step-{state['step']:08d}.npz"
        _write(path, state, {"model": [*model.variables, *more], "optimizer": model.optimizer.variables})
        paths = self.paths()
        index = paths.index(path)
        # later checkpoints are damaged, or the run would have resumed from them
        for old in (*paths[: max(0, index + 1 - self.keep)], *paths[index + 1 :]):
            old.unlink()
        return path

    def write_best(self, model: "keras.Model", state: dict) -> Path:
        """Write the current variables of the model to `best.npz`."""
        _write(self.best, state, {"model": model.variables})
        return self.best

    def newest(self, log: Callable[[str], object] = lambda text: None) -> Checkpoint | None:
        """Read the newest undamaged checkpoint; None if there are no checkpoints.

        Args:
            log: called with a line about each damaged checkpoint that is skipped.

        Raises:
            DataError: if all checkpoints are damaged.
        """
        damaged = []
        for path in reversed(self.paths()):
            try:
                checkpoint = read(path)
            except DataError as error:
                damaged.append(str(error))
            else:
                for message in damaged:
                    log(f"{message} Skipped.")
                return checkpoint
        if damaged:
            raise DataError("\n".join([*damaged, "Start a new run with --set output=FOLDER."]))
        return None

    def remove_unfinished(self) -> None:
        """Remove temporary files of a killed run."""
        for path in self.folder.glob(".*.npz"):
            path.unlink()

    def bytes_needed(self, model: "keras.Model", slots: int) -> int:
        """Return the disk space of a run: `keep` checkpoints and a temporary one, and `best.npz` twice.

        Args:
            model: the trained model.
            slots: arrays of the optimizer per trainable weight.
        """
        weights = sum(_bytes(variable) for variable in model.variables)
        trained = sum(_bytes(variable) for variable in model.trainable_variables)
        return (self.keep + 1) * (weights + slots * trained) + 2 * weights

    def bytes_used(self) -> int:
        """Return the size of the existing checkpoints."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npz"))


def training_variables(model: "keras.Model", train_model: "keras.Model") -> list:
    """Return the variables of the training model that are not part of the model itself."""
    own = {id(variable) for variable in model.variables}
    return [variable for variable in train_model.variables if id(variable) not in own]


def read(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint file, without unpickling.

    Raises:
        DataError: if the file is damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        contents = json.loads(arrays.pop(STATE).tobytes().decode("utf-8"))
        state = dict(contents["state"])
        if _shapes(arrays) != contents["shapes"]:
            raise ValueError("arrays are missing or have other shapes")
    # zipfile, NumPy and json raise errors of many kinds for damaged data, NotImplementedError and MemoryError included
    except Exception as error:
        raise DataError(f"{path}: damaged checkpoint ({error or type(error).__name__}).") from error
    of_kind = ([arrays[key] for key in sorted(arrays) if key.startswith(kind)] for kind in ("model/", "optimizer/"))
    return Checkpoint(path, state, *of_kind)


def check_disk(folder: str | os.PathLike, needed: int) -> None:
    """Check that the disk of `folder` has `needed` bytes free.

    Raises:
        DiskError: with the folder, the required and the free space.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"{folder}: about {needed / 1e6:,.0f} MB are needed here, but the disk has only {free / 1e6:,.0f} MB "
            f"free. Free some space, or choose another folder with --set output=FOLDER."
        )


def _bytes(variable) -> int:
    return int(np.prod(variable.shape, dtype=np.int64)) * np.dtype(variable.dtype).itemsize


def _shapes(arrays: dict[str, np.ndarray]) -> dict[str, list]:
    return {key: [str(array.dtype), *array.shape] for key, array in arrays.items()}


def _write(path: Path, state: dict, variables: dict[str, list]) -> None:
    import keras

    arrays = {
        f"{kind}/{index:05d}": keras.ops.convert_to_numpy(variable)
        for kind, values in variables.items()
        for index, variable in enumerate(values)
    }
    contents = json.dumps({"state": state, "shapes": _shapes(arrays)})
    with atomic_path(path) as temporary:
        np.savez(temporary, **{STATE: np.frombuffer(contents.encode("utf-8"), np.uint8)}, **arrays)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
