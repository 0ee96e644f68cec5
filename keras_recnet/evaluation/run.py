"""Score the maps of datasets and write numbers, tables, curves and a report to one folder."""

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.evaluation import figures, report, tables
from keras_recnet.evaluation.aggregation import Means, by_group, means, over_groups
from keras_recnet.evaluation.datasets import DataSet, Fault, Pairs, check_names, pair
from keras_recnet.evaluation.preset_maps import Progress, no_progress, predict_maps
from keras_recnet.evaluation.published import Published, published
from keras_recnet.evaluation.result_log import Record, ResultLog
from keras_recnet.evaluation.subgroups import Subgroups, draw_subgroups
from keras_recnet.evaluation.workers import Task, work
from keras_recnet.parallel import Shard

DEFAULT_JOBS = 2
LOG = "per_image.jsonl"
SHARDS = "shards"  # folder of the logs of shards


@dataclasses.dataclass(frozen=True)
class Result:
    """Scores of all methods on one dataset.

    Attributes:
        data_set: the dataset.
        pairs: its files.
        records: method → image name → score.
        images: method → means over images.
        groups: method → group → means; empty unless the dataset is grouped.
        over_groups: method → means over groups; empty unless the dataset is grouped.
        published: rows of the papers' tables.
    """

    data_set: DataSet
    pairs: Pairs
    records: dict[str, dict[str, Record]]
    images: dict[str, Means]
    groups: dict[str, dict[str, Means]]
    over_groups: dict[str, Means]
    published: list[Published]

    @property
    def same_images(self) -> bool:
        """Whether all methods were scored on the same images, so that their means can be compared."""
        names = [set(records) for records in self.records.values()]
        return all(other == names[0] for other in names)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of all datasets, and the files that could not be scored."""

    results: list[Result]
    faults: list[Fault]

    @property
    def good(self) -> bool:
        """Whether every fault is allowed."""
        return all(fault.allowed for fault in self.faults)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A dataset with its files and its published rows, ready to be scored."""

    data_set: DataSet
    pairs: Pairs
    published: list[Published]


def evaluate(
    data_sets: Iterable[DataSet],
    out: str | os.PathLike,
    *,
    presets: Iterable[str] = (),
    fusions: Iterable[str] = (),
    states: Iterable[str] = (),
    subgroups: Subgroups | None = None,
    allow_missing: bool = False,
    ablations: bool = False,
    **options,
) -> Evaluation:
    """Score one or more methods on one or more datasets and write the results to a folder.

    Calls `predict_maps` (if there are presets), `prepare` and `score`; see there for the errors raised.

    Args:
        data_sets: the datasets.
        out: the folder to write to.
        presets: presets whose maps are predicted first, see `keras_recnet.evaluation.preset_maps.predict_maps`.
        fusions: see `predict_maps`.
        states: see `predict_maps`.
        subgroups: how to draw random subgroups, which are scored in place of the groups.
        allow_missing: see `prepare`.
        ablations: see `prepare`.
        **options: see `score`.

    Example:
        >>> data_set = DataSet("ECSSD", "ECSSD/masks", {"ours": "maps/ours"}, images="ECSSD/images")
        >>> evaluation = evaluate([data_set], "results", presets=["recnet_lite0"])
        >>> evaluation.results[0].images["recnet_lite0"].values["mae"]
        0.0303...
    """
    progress = options.get("progress", no_progress)
    if subgroups:
        data_sets = [draw_subgroups(data_set, subgroups, out) for data_set in data_sets]
    how = {"fusions": fusions, "states": states, "allow_missing": allow_missing}
    data_sets, faults = predict_maps(data_sets, presets, out, **how, progress=progress)
    prepared = prepare(data_sets, allow_missing=allow_missing, ablations=ablations)
    return score(prepared, out, faults=faults, **options)


def prepare(data_sets: Iterable[DataSet], *, allow_missing: bool = False, ablations: bool = False) -> list[Prepared]:
    """Find the files of datasets.

    Args:
        data_sets: the datasets.
        allow_missing: whether a mask without a map, or a map without a mask, is allowed; it is listed either way.
        ablations: whether the published rows include ablations and fusion methods.

    Raises:
        DataError: if a folder does not exist or contains nothing to score.
        ConfigError: if the papers have no numbers for a dataset, a dataset has no methods, or two have the same name.
    """
    data_sets = list(data_sets)
    check_names(data_sets, "datasets")
    for data_set in data_sets:
        if not data_set.maps:
            raise ConfigError(f"{data_set.name}: nothing to score. Add --maps NAME=DIR, or --preset and --images.")
    rows = [published(entry.published, ablations=ablations) if entry.published else [] for entry in data_sets]
    return [
        Prepared(data_set, pair(data_set, allow_missing=allow_missing), published_rows)
        for data_set, published_rows in zip(data_sets, rows, strict=True)
    ]


def score(
    prepared: list[Prepared],
    out: str | os.PathLike,
    *,
    jobs: int = DEFAULT_JOBS,
    common_only: bool = False,
    merge: bool = False,
    faults: Iterable[Fault] = (),
    progress: Progress = no_progress,
) -> Evaluation:
    """Score datasets and write the results to a folder.

    Each score is appended to `out/per_image.jsonl` immediately: an interrupted run resumes, only changed files are
    scored again, and adding a method only scores its own maps. Files that are unreadable or have no
    counterpart are faults; all others are scored.

    With `jobs` other than 1, scripts must call this function below `if __name__ == "__main__":` (for multiprocessing).

    Args:
        prepared: the datasets, from `prepare`.
        out: the folder for `metrics.json`, `metrics.csv`, `curves.csv`, `per_image.csv`, `table.md`, `table.tex`,
            `curves/*.svg`, `curves/*.png` and `report.html`.
        jobs: number of processes; 1 scores in this process.
        common_only: whether means are taken only over the images that every method has.
        merge: whether to use the scores of all shards, see `score_shard`. Maps that no shard has scored are scored.
        faults: earlier faults, to be listed with the new ones.
        progress: given the number of masks, returns a context manager that yields a function to call after each mask.

    Raises:
        ConfigError: if there are no scores of shards to merge.
        DataError: if no map of a method could be scored.
        DiskError: if the disk is full; all scores so far are kept.
    """
    out = Path(out)
    log = ResultLog(out / LOG, _shard_logs(out) if merge else ())
    records, faults = _score(prepared, log, jobs, faults, progress)
    results = [_aggregate(entry, records[entry.data_set.name], common_only, faults) for entry in prepared]
    evaluation = Evaluation(results, faults)
    write(evaluation, out)
    return evaluation


def score_shard(
    prepared: list[Prepared],
    out: str | os.PathLike,
    shard: Shard,
    *,
    jobs: int = DEFAULT_JOBS,
    faults: Iterable[Fault] = (),
    progress: Progress = no_progress,
) -> tuple[int, list[Fault]]:
    """Score a shard of datasets, and write only its scores, to `out/shards`, for `score(…, merge=True)`.

    Several shards may be scored at once, by processes or machines that share the folder `out`.

    Args:
        prepared: the datasets, from `prepare`, whose `shard` is this one.
        out: the folder to write to, the same one for all shards.
        shard: the shard.
        jobs: as in `score`.
        faults: as in `score`.
        progress: as in `score`.

    Returns:
        The number of maps with a score, and the faults.

    Raises:
        DiskError: if the disk is full; all scores so far are kept.
    """
    log = ResultLog(Path(out, SHARDS, f"{shard.index}-of-{shard.count}.jsonl"))
    records, faults = _score(prepared, log, jobs, faults, progress)
    return sum(len(own) for methods in records.values() for own in methods.values()), faults


def _shard_logs(out):
    logs = sorted((out / SHARDS).glob("*.jsonl"))
    if not logs:
        raise ConfigError(
            f"{out / SHARDS}: no scores of shards to merge. Score them first, with --shard I/N and the same -o."
        )
    return logs


def _score(prepared, log, jobs, faults, progress):
    """Score the maps that have no valid score in `log`; return dataset → method → name → record, and all faults."""
    faults = [*faults, *(fault for entry in prepared for fault in entry.pairs.faults)]
    records = {entry.data_set.name: {method: {} for method in entry.data_set.maps} for entry in prepared}
    with log:
        tasks = [task for entry in prepared for task in _tasks(entry.data_set.name, entry.pairs, log)]
        with progress(len(tasks)) as advance, contextlib.closing(work(tasks, jobs=jobs)) as results:
            for result in results:
                for record in result.records:
                    log.add(record)
                data_set, name = result.task.data_set, result.task.name
                for method in (*result.unchanged, *(record.method for record in result.records)):
                    records[data_set][method][name] = log.records[data_set, method, name]
                faults += result.faults
                advance()
    return records, faults


def write(evaluation: Evaluation, out: str | os.PathLike) -> None:
    """Write all output files of `score` except the result log."""
    out = Path(out)
    tables.write(evaluation, out)
    svgs = {result.data_set.name: figures.write(result, out / "curves") for result in evaluation.results}
    report.write(evaluation, svgs, out / "report.html")


def _tasks(data_set, pairs, log):
    for name, mask in pairs.masks.items():
        maps = {method: files[name] for method, files in pairs.maps.items() if name in files}
        records = {method: log.records.get((data_set, method, name)) for method in maps}
        known = {method: record.sums for method, record in records.items() if record}
        if maps:
            yield Task(data_set, name, mask, maps, known)


def _aggregate(prepared, records, common_only, faults):
    data_set = prepared.data_set
    if common_only:
        common = set.intersection(*(set(own) for own in records.values()))
        records = {
            method: {name: record for name, record in own.items() if name in common} for method, own in records.items()
        }
    for method, own in records.items():
        if not own:
            reason = "the methods have no image in common" if common_only else f"no map of {method} could be scored"
            listed = "".join(f"\n  {fault.message}" for fault in faults[:20])
            raise DataError(f"{data_set.name}: {reason}.{listed}")
    groups = {}
    if data_set.grouped:
        groups = {method: by_group(own.values(), data_set.draws) for method, own in records.items()}
    return Result(
        data_set,
        prepared.pairs,
        records,
        {method: means(own.values()) for method, own in records.items()},
        groups,
        {method: over_groups(own.values()) for method, own in groups.items()},
        prepared.published,
    )
