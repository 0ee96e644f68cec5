"""A training run: from a configuration to a preset folder."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_recnet.files import silence_stderr
from keras_recnet.training.checkpoints import CheckpointFolder
from keras_recnet.training.config.loading import InvalidValuesError, load
from keras_recnet.training.preparation import prepare, report_with_faults_of_data


def train(config_path: str | os.PathLike, overrides: Sequence[str] = (), resume: bool = False, stream=None) -> Path:
    """Train as specified by a configuration, and write a preset folder.

    Args:
        config_path: name of a shipped configuration, or path of a YAML file.
        overrides: `"dotted.key=value"` entries that override the file.
        resume: whether to continue the run in the output folder from its newest checkpoint. On a CPU with
            `deterministic: true` the final weights are bit-identical to those of an uninterrupted run.
        stream: where progress is printed; standard error by default.

    Returns:
        The folder of the preset.

    Raises:
        RecNetError: if the configuration, the data, the disk or the output folder do not allow the training.
        SystemExit: with status 130 on SIGINT or SIGTERM, after a checkpoint was written.
    """
    try:
        config = load(config_path, overrides)
    except InvalidValuesError as error:
        report_with_faults_of_data(error)
    options = [part for entry in overrides for part in ("--set", entry)]
    command = shlex.join(["keras-recnet", "train", os.fspath(config_path), *options])
    stream = stream or sys.stderr
    try:
        prepared = prepare(config, command, resume, stream)
        # the frameworks take seconds to import, so everything that can be checked without them comes first
        with silence_stderr():
            from keras_recnet.training import session

        return session.run(config, prepared, command, stream)
    except KeyboardInterrupt:
        resumable = CheckpointFolder(Path(config.output) / "checkpoints").paths()
        advice = f"Resume with: {command} --resume" if resumable else f"Start again with: {command}"
        print(f"\nStopped; there was nothing new to save. {advice}", file=sys.stderr)
        raise SystemExit(130) from None
