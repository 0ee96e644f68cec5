"""Checks before training, without a framework: the configuration, the output folder and the data."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from keras_recnet.errors import ConfigError, DataError, MissingExtraError
from keras_recnet.files import disk_errors
from keras_recnet.training.checkpoints import Checkpoint, CheckpointFolder, read
from keras_recnet.training.config.loading import Config, InvalidValuesError, differences, with_current_defaults
from keras_recnet.training.cosaliency_task import CoSaliencyTask
from keras_recnet.training.data import Faults
from keras_recnet.training.saliency_task import SaliencyTask
from keras_recnet.training.task import TrainingTask, warmup_steps

TASKS = {"saliency": SaliencyTask, "cosaliency": CoSaliencyTask}


@dataclasses.dataclass
class Prepared:
    """Results of the checks before a framework is imported.

    Attributes:
        task: the training task.
        files: result of `task.find_files`.
        checkpoints: folder of the checkpoints.
        checkpoint: the one to resume from, or None.
    """

    task: TrainingTask
    files: tuple[list, list]
    checkpoints: CheckpointFolder
    checkpoint: Checkpoint | None


def prepare(config: Config, command: str, resume: bool, stream, *, preview: bool = False) -> Prepared:
    """Check the configuration, the output folder and the data, and report all faults together.

    Args:
        config: the configuration.
        command: the command, for messages.
        resume: whether to resume the run in the output folder.
        stream: where notes are printed.
        preview: whether only a preview is drawn, for which the output folder may already have a run.

    Raises:
        RecNetError: with all faults.
    """

    def log(text: str):
        print(text, file=stream, flush=True)

    folder, task = Path(config.output), TASKS[config.task](config)
    checkpoints = CheckpointFolder(folder / "checkpoints", config.checkpoint.keep)
    checkpoint, files, faults = None, ([], []), Faults()
    with faults.collect():
        checkpoint = None if preview else _checkpoint_to_resume(config, checkpoints, f"{command} --resume", resume, log)
    with faults.collect():
        _check_tensorboard(config)
    with faults.collect():
        task.preset()
    with faults.collect():
        task.check_keys()
    if config.steps is not None:
        with faults.collect():
            warmup_steps(config.optimizer, config.steps)
    if config.data.synthetic and not faults.errors:
        _make(folder)  # the images are drawn there
    if not (config.data.synthetic and faults.errors):
        with faults.collect():
            files = task.find_files(folder, log)
    faults.raise_all()
    _make(folder)
    return Prepared(task, files, checkpoints, checkpoint)


def report_with_faults_of_data(error: InvalidValuesError) -> NoReturn:
    """Raise the error together with the faults of the training and validation files."""
    config, faults = error.data_config, Faults()
    faults.errors.append(error)
    if config is not None and config.data.synthetic is None:
        with faults.collect():
            TASKS[config.task](config).find_files(Path(config.output))
    faults.raise_all()


def _make(folder: Path) -> None:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _checkpoint_to_resume(
    config: Config, checkpoints: CheckpointFolder, resume_command: str, resume: bool, log: Callable[[str], object]
) -> Checkpoint | None:
    folder = config.output
    if not resume:
        if checkpoints.paths():
            raise ConfigError(
                f"{folder}: this folder already has a run. Resume it with: {resume_command}; or start a new run in "
                f"another folder: --set output=FOLDER"
            )
        return None
    checkpoint = checkpoints.newest(log)
    if checkpoint is None:
        raise ConfigError(
            f"{folder}: this folder has no checkpoint to resume from. Start the run without --resume, or pass the "
            f"folder of the run: --set output=FOLDER"
        )
    before = with_current_defaults(checkpoint.state["config"])
    if changed := differences(before, config.fixed()):
        raise ConfigError(
            f"{folder}: this run was started with a different configuration and cannot be resumed with this one. "
            f"Differences (then → now): {'; '.join(changed)}. Undo them, or start a new run with --set output=FOLDER."
        )
    if config.preset.weights == "best" and checkpoint.state["history"]:
        try:
            read(checkpoints.best)
        except DataError as error:
            raise DataError(
                f"{error} It has the weights of the preset. Restore it, or save the last weights instead: "
                f"--set preset.weights=last"
            ) from error
    return checkpoint


def _check_tensorboard(config: Config) -> None:
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError(
            "tensorboard: the package is not installed. Install it with: pip install tensorboard, or use: "
            "--set tensorboard=false"
        )
