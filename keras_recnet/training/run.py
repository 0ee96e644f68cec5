"""A training run: from a configuration to a preset folder."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_recnet.errors import ConfigError
from keras_recnet.files import silence_stderr
from keras_recnet.training.checkpoints import CheckpointFolder
from keras_recnet.training.config.loading import InvalidValuesError, load
from keras_recnet.training.preparation import prepare, report_with_faults_of_data
from keras_recnet.training.processes import Processes, find_processes


def train(
    config_path: str | os.PathLike,
    overrides: Sequence[str] = (),
    resume: bool = False,
    stream=None,
    *,
    processes: int | None = None,
    process: int | None = None,
    coordinator: str | None = None,
) -> Path:
    """Train as specified by a configuration, and write a preset folder.

    Args:
        config_path: name of a shipped configuration, or path of a YAML file.
        overrides: `"dotted.key=value"` entries that override the file.
        resume: whether to continue the run in the output folder from its newest checkpoint. On a CPU with
            `deterministic: true` the final weights are bit-identical to those of an uninterrupted run.
        stream: where progress is printed; standard error by default.
        processes: number of processes, with `distribution: data_parallel`; each calls this function. None: from the
            environment, see `keras_recnet.training.processes.find_processes`.
        process: index of this process; None: from the environment.
        coordinator: `host:port` where process 0 listens; None: from the environment.

    Returns:
        The folder of the preset.

    Raises:
        RecNetError: if training cannot start because of the configuration, the data, the disk or the output folder.
        SystemExit: with status 130 on SIGINT or SIGTERM, after a checkpoint was written.
    """
    config, command = _load(config_path, overrides)
    if config.distribution == "data_parallel":
        group = find_processes(processes, process, coordinator)
    elif processes is None and process is None and coordinator is None:
        group = Processes()
    else:
        raise ConfigError("distribution: several processes need --set distribution=data_parallel. Received: 'none'")
    # process 0 reports for all
    stream = stream or sys.stderr if group.index == 0 else open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        prepared = prepare(config, command, resume, stream)
        return _session().run(config, prepared, command, group, stream)
    except KeyboardInterrupt:
        paths = CheckpointFolder(Path(config.output) / "checkpoints").paths()
        if paths:
            advice = f"The newest checkpoint is {paths[-1].name}. Resume with: {command} --resume"
        else:
            advice = f"There is no checkpoint yet. Start again with: {command}"
        print(f"\nStopped at once. {advice}", file=sys.stderr)
        raise SystemExit(130) from None


def preview(config_path: str | os.PathLike, overrides: Sequence[str] = (), count: int = 1, stream=None) -> Path:
    """Draw the first training batches of a configuration, to check what the network is trained on.

    Writes a contact sheet `preview/batch-001.png`, … for each batch to the output folder: the augmented images, with
    their masks tinted red. For groups, each row is a group; frames are green for images of the group, blue for
    composites with such an image, red for distractors, and orange for composites that are distractors.

    Args:
        config_path: name of a shipped configuration, or path of a YAML file.
        overrides: `"dotted.key=value"` entries that override the file.
        count: number of batches.
        stream: where progress is printed; standard error by default.

    Returns:
        The folder of the sheets.

    Raises:
        RecNetError: if the batches cannot be drawn because of the configuration, the data or the disk.
    """
    config, command = _load(config_path, overrides)
    stream = stream or sys.stderr
    prepared = prepare(config, command, False, stream, preview=True)
    return _session().preview(config, prepared, count, stream)


def _load(config_path, overrides):
    """Return the configuration, and the command that trains it."""
    options = [part for entry in overrides for part in ("--set", entry)]
    command = shlex.join(["keras-recnet", "train", os.fspath(config_path), *options])
    try:
        return load(config_path, overrides), command
    except InvalidValuesError as error:
        report_with_faults_of_data(error)


def _session():
    # the frameworks take seconds to import, so everything that can be checked without them comes first
    with silence_stderr():
        from keras_recnet.training import session

    return session
