"""The training runs of a study: their configurations, folders and progress."""

import csv
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from keras_recnet import presets
from keras_recnet.errors import ConfigError
from keras_recnet.studies.definition import Study, StudyRow
from keras_recnet.training.checkpoints import CheckpointFolder
from keras_recnet.training.config.loading import Config, differences, load, with_current_defaults

# A study scores maps of the Keras model and needs only the newest checkpoint of each run.
DEFAULTS = ("checkpoint.keep=1", "preset.litert=false")


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run: one network with one seed.

    Attributes:
        row: the row that defines the network.
        seed: the seed.
        config_path: name or path of the configuration.
        overrides: `"key=value"` entries of this run.
        config: the configuration with the overrides.
    """

    row: StudyRow
    seed: int
    config_path: str
    overrides: tuple[str, ...]
    config: Config

    def __str__(self):
        return f"{self.row.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The output folder of the run."""
        return Path(self.config.output)

    @property
    def preset(self) -> Path:
        """The folder of the trained preset."""
        return self.folder / "preset"

    @property
    def command(self) -> str:
        """The command that trains this network alone."""
        options = [part for entry in self.overrides for part in ("--set", entry)]
        return shlex.join(["keras-recnet", "train", self.config_path, *options])

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The checkpoints of the run."""
        return CheckpointFolder(self.folder / "checkpoints")

    @property
    def is_trained(self) -> bool:
        """Whether the preset is complete."""
        return (self.preset / presets.CONFIG).is_file()

    def check(self) -> None:
        """Check that an earlier run in the folder had the same configuration.

        Raises:
            ConfigError: with the differences.
        """
        path = self.folder / "config.yaml"
        if not path.is_file() or not (self.is_trained or self.checkpoints.paths()):
            return
        before = with_current_defaults(load(path).fixed())
        if changed := differences(before, self.config.fixed()):
            raise ConfigError(
                f"{self.folder}: was trained with a different configuration. Differences (then → now): "
                f"{'; '.join(changed)}. Undo them, or start a new study in another folder (-o)."
            )

    def progress(self) -> tuple[float, float]:
        """Return the completed share of the run, and the seconds that it has taken so far."""
        epochs = _rows(self.folder / "log.csv")
        if self.is_trained:
            return 1.0, float(epochs[-1]["seconds"]) if epochs else 0.0
        checkpoint = self.checkpoints.newest()
        if self.config.steps is not None and checkpoint is not None:
            return checkpoint.state["step"] / self.config.steps, checkpoint.state["seconds"]
        if self.config.epochs is not None and epochs:
            return len(epochs) / self.config.epochs, float(epochs[-1]["seconds"])
        return 0.0, 0.0


def plan(
    study: Study,
    out: Path,
    rows: Sequence[StudyRow],
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Run]:
    """Return the runs of a study in order: all rows with the first seed, then all rows with the next one.

    Args:
        study: the study.
        out: output folder of the study.
        rows: the selected rows.
        config: name or path of a configuration, instead of the study's.
        overrides: `"key=value"` entries for all rows; a row's own entries take precedence.
        seeds: the seeds; empty: the seed in the configuration.

    Raises:
        ConfigError: if a configuration is invalid, or differs from that of an earlier run in the same folder.
    """
    for key in ("output", "seed"):
        if any(entry.partition("=")[0].strip() == key for entry in overrides):
            option = {"output": "-o", "seed": "--seeds"}[key]
            raise ConfigError(f"--set {key}: a study sets this key itself. Use {option}.")
    config = config or study.config
    networks = list(dict.fromkeys(row.network or row.name for row in rows))
    common = [*DEFAULTS, *overrides]
    data = load(config, common).data
    if getattr(data, "cache", None) == "features" and data.features is None:
        # rows differ only in layers after the cached features
        common.append(f"data.features={_quoted(out / 'features')}")
    runs = []
    for seed in seeds or [load(config, common).seed]:
        for row in map(study.row, networks):
            folder = out / "runs" / row.name / f"seed-{seed}"
            entries = (*common, *row.set, f"seed={seed}", f"output={_quoted(folder)}")
            runs.append(Run(row, seed, config, entries, load(config, entries)))
    for run in runs:
        run.check()
    return runs


def _quoted(path):
    """Return a path as a YAML string, in which characters such as `#` have no meaning."""
    return json.dumps(str(path), ensure_ascii=False)


def seconds_left(runs: Sequence[Run]) -> float | None:
    """Estimate the remaining training time from the runs so far; None if none has progressed."""
    progress = [run.progress() for run in runs]
    whole = [seconds / share for share, seconds in progress if share and seconds]
    if not whole:
        return None
    return sum(1 - share for share, _ in progress) * sum(whole) / len(whole)


def _rows(path):
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
