"""Run a study: train the networks that are not trained yet, score them, and write the table."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_recnet import presets
from keras_recnet.errors import ConfigError
from keras_recnet.evaluation import preset_maps
from keras_recnet.evaluation import run as evaluation_run
from keras_recnet.evaluation.datasets import DataSet, Fault, check_names, files_by_name, masks_of
from keras_recnet.evaluation.preset_maps import Progress, no_progress
from keras_recnet.evaluation.subgroups import Subgroups, draw_subgroups
from keras_recnet.imaging.reading import SUFFIXES
from keras_recnet.studies import results, writing
from keras_recnet.studies.definition import Study, StudyRow
from keras_recnet.studies.runs import Run, seconds_left
from keras_recnet.training.progress import format_duration
from keras_recnet.training.run import train

UNKNOWN = (
    "unknown, because no run has started. Start the study, stop it with Ctrl-C after some minutes, and repeat "
    "--dry-run; the study then resumes where it stopped"
)


def select_rows(study: Study, names: Sequence[str] = ()) -> list[StudyRow]:
    """Return the rows of these names in the order of the study; without names, all rows.

    Raises:
        ConfigError: if the study has no such row.
    """
    known = [row.name for row in study.rows]
    for name in names:
        if name not in known:
            raise ConfigError(f"--rows {name}: the study has no such row. Its rows: {', '.join(known)}.")
    return [row for row in study.rows if not names or row.name in names]


def describe(runs: Sequence[Run]) -> str:
    """Describe what a study would run, and estimate how long it takes."""
    lines = []
    for run in runs:
        share, seconds = run.progress()
        state = "not started"
        if run.is_trained:
            state = f"trained in {format_duration(seconds)}"
        elif share or run.checkpoints.paths():
            state = f"started, {share:.0%} done"
        lines += [f"{run}: {state}", f"  {run.command}"]
    seconds = seconds_left(runs)
    left = UNKNOWN if seconds is None else f"about {format_duration(seconds)}, estimated from the runs so far"
    return "\n".join([*lines, f"Remaining training time: {left}."])


def run_study(
    study: Study,
    rows: Sequence[StudyRow],
    runs: Sequence[Run],
    data_sets: Sequence[DataSet],
    out: Path,
    *,
    noise_from: str | None = None,
    jobs: int = evaluation_run.DEFAULT_JOBS,
    progress: Progress = no_progress,
    stream=None,
) -> tuple[list[results.Table], list[Fault]]:
    """Train, score and write; the table is rewritten after each training run.

    A run that was interrupted, even by SIGKILL, resumes from its newest checkpoint, and scores are kept.

    Args:
        study: the study.
        rows: its selected rows.
        runs: the training runs, from `keras_recnet.studies.runs.plan`.
        data_sets: datasets with images and masks, without methods.
        out: output folder.
        noise_from: folder of noise images, for rows with `noise`.
        jobs: number of scoring processes.
        progress: see `keras_recnet.evaluation.run.score`.
        stream: where the progress of training is printed; standard error by default.

    Returns:
        A table per dataset, and the files that could not be scored.

    Raises:
        RecNetError: if a configuration, the data or the disk prevents training or evaluation.
        SystemExit: with status 130 on SIGINT or SIGTERM during training, after a checkpoint was written.
    """
    stream = stream or sys.stderr
    data_sets = [dataclasses.replace(data_set, grouped=_needs_groups(runs)) for data_set in data_sets]
    _check(study, data_sets)
    evaluation_folder = out / "evaluation"
    of_rows = _data_sets_of_rows(study, rows, data_sets, evaluation_folder, noise_from)
    tables, faults = [], []
    for number, run in enumerate(runs, start=1):
        if not run.is_trained:
            seconds = seconds_left(runs)
            left = "" if seconds is None else f"; about {format_duration(seconds)} left for all runs"
            print(f"Run {number} of {len(runs)}: {run}{left}", file=stream, flush=True)
            train(run.config_path, list(run.overrides), resume=bool(run.checkpoints.paths()), stream=stream)
        elif number < len(runs):
            continue  # scored together with the next trained run
        trained = [other for other in runs if other.is_trained]
        tables, faults = _score(study, rows, trained, of_rows, evaluation_folder, jobs, progress)
        writing.write(tables, out)
    return tables, faults


def _needs_groups(runs):
    return runs[0].config.task == presets.COSALIENCY


def _check(study, data_sets):
    """Find missing files before hours of training."""
    check_names(data_sets, "datasets")
    for data_set in data_sets:
        if data_set.images is None:
            raise ConfigError(f"{data_set.name}: a study needs images. Add their folder (--images DIR).")
        if data_set.maps:
            raise ConfigError(f"{data_set.name}: a study scores its own maps. Remove `maps`.")
        if study.published is not None:
            results.published_name(study, data_set.published)
        masks_of(data_set)
        files_by_name(data_set.images, SUFFIXES, "images")


def _score(study, rows, runs, data_sets, out, jobs, progress):
    """Score every row of the trained runs; return a table per dataset, and the faults.

    `data_sets` has a list per row, with the same datasets or their subgroups.
    """
    scored, methods, faults = {}, {}, []  # name → dataset with its methods; (row, seed) → method
    for run in runs:
        for row in rows:
            if (row.network or row.name) != run.row.name:
                continue
            current = [scored.get(data_set.name, data_set) for data_set in data_sets[row.name]]
            known, fusions = set(current[0].maps), [row.fusion] if row.fusion else []
            current, new = preset_maps.predict_maps(
                current, [f"{row.name}, seed {run.seed}={run.preset}"], out, fusions=fusions, progress=progress
            )
            (methods[row.name, run.seed],) = set(current[0].maps) - known  # with a fusion, the name is longer
            scored |= {data_set.name: data_set for data_set in current}
            faults += new
    prepared = evaluation_run.prepare(dataclasses.replace(data_set, published=None) for data_set in scored.values())
    evaluation = evaluation_run.score(prepared, out, jobs=jobs, faults=faults, progress=progress)
    means = {result.data_set.name: result.images for result in evaluation.results}
    tables = []
    for index, whole in enumerate(data_sets[None]):
        scores = {
            (row, seed): means[data_sets[row][index].name][method].values for (row, seed), method in methods.items()
        }
        tables.append(results.table(study, rows, whole.name, scores, whole.published))
    return tables, evaluation.faults


def _data_sets_of_rows(study, rows, data_sets, out, noise_from):
    """Return row → its datasets, and None → the datasets themselves."""
    of_rows = {None: data_sets}
    for row in rows:
        of_rows[row.name] = data_sets
        if row.subgroups is not None:
            if row.noise and noise_from is None:
                raise ConfigError(f"rows: {row.name}: needs a folder of noise images (--noise-from DIR).")
            subgroups = Subgroups(row.subgroups, study.draws, row.noise, noise_from if row.noise else None)
            of_rows[row.name] = [draw_subgroups(data_set, subgroups, out) for data_set in data_sets]
    return of_rows
