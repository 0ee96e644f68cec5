"""Data sets of maps and masks → numbers, tables, curves and a report in one folder."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.evaluation import figures, report, tables
from keras_recnet.evaluation.aggregation import Means, by_group, means, over_groups
from keras_recnet.evaluation.datasets import DataSet, Fault, Pairs, check_names, pair
from keras_recnet.evaluation.published import Published, published
from keras_recnet.evaluation.result_log import Journal, Record
from keras_recnet.evaluation.workers import Task, work

DEFAULT_JOBS = 2


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found out about a data set.

    Attributes:
        data_set: its folders and names.
        pairs: its files.
        records: method → its scored maps, by name.
        images: method → means over images.
        groups: method → group → means; empty unless the set is grouped.
        over_groups: method → means over groups; empty unless the set is grouped.
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
        """Whether all methods were scored on the same images, so that their means may be compared."""
        names = [set(records) for records in self.records.values()]
        return all(other == names[0] for other in names)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All results, and what could not be scored."""

    results: list[Result]
    faults: list[Fault]

    @property
    def good(self) -> bool:
        """Whether there is no fault but those that were allowed."""
        return all(fault.allowed for fault in self.faults)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set whose files were found: its pairs, and the published rows to stand beside."""

    data_set: DataSet
    pairs: Pairs
    published: list[Published]


def evaluate(sets: Iterable[DataSet], out: str | os.PathLike, *, allow_missing=False, ablations=False, **options):
    """Scores the maps of one or many methods on one or many data sets, and writes the results to a folder.

    It is `score` of what `prepare` finds; the arguments are theirs.

    Example:
        >>> sets = [DataSet("ECSSD", "ECSSD/masks", {"ours": "maps/ours"}, images="ECSSD/images")]
        >>> evaluation = evaluate(sets, "results")
        >>> evaluation.results[0].images["ours"].values["mae"]
        0.0330...
    """
    return score(prepare(sets, allow_missing=allow_missing, ablations=ablations), out, **options)


def prepare(sets: Iterable[DataSet], *, allow_missing: bool = False, ablations: bool = False) -> list[Prepared]:
    """Finds the files of data sets, before anything is scored.

    Args:
        sets: the data sets.
        allow_missing: a mask without a map, and the reverse, are listed but no error.
        ablations: with the published rows, those of ablations and fusions too.

    Raises:
        DataError: if a folder is not there or holds nothing to score.
        ConfigError: if there is nothing published on a set, or a set has no methods or no name of its own.
    """
    sets = list(sets)
    check_names(sets, "data sets")
    for one in sets:
        if not one.maps:
            raise ConfigError(f"{one.name}: no maps to score. Name a method and its folder (--maps NAME=DIR).")
    rows = [published(one.published, ablations=ablations) if one.published else [] for one in sets]
    return [
        Prepared(one, pair(one, allow_missing=allow_missing), beside) for one, beside in zip(sets, rows, strict=True)
    ]


def score(
    prepared: list[Prepared],
    out: str | os.PathLike,
    *,
    jobs: int = DEFAULT_JOBS,
    common_only: bool = False,
    faults: Iterable[Fault] = (),
    progress: Callable[[int], contextlib.AbstractContextManager] = lambda total: contextlib.nullcontext(lambda: None),
) -> Evaluation:
    """Scores data sets and writes the results to a folder.

    Every image's result is kept in `out/per_image.jsonl` as soon as it is there, so a run that was killed goes on, and
    a method that is added later costs its own maps alone. A file that changed is scored anew. A file that cannot be
    read or has no partner is a fault; the rest is scored and written all the same.

    With `jobs` other than 1 a script calls this below `if __name__ == "__main__":`, as always with processes.

    Args:
        prepared: of `prepare`.
        out: folder to write to: `metrics.json`, `metrics.csv`, `curves.csv`, `per_image.csv`, `table.md`, `table.tex`,
            `curves/*.svg` and `*.png`, `report.html`.
        jobs: processes that score; 1: this one.
        common_only: means are taken over the images that every method of a set has.
        faults: what went wrong before, to be listed with the rest.
        progress: given the number of masks, a context manager that yields what is called after each.

    Raises:
        DataError: if no map of a method could be scored.
        DiskError: if the disk is full; what was scored is kept.
    """
    out = Path(out)
    faults = [*faults, *(fault for one in prepared for fault in one.pairs.faults)]
    scored = {one.data_set.name: {method: {} for method in one.data_set.maps} for one in prepared}
    with Journal(out / "per_image.jsonl") as journal:
        tasks = [task for one in prepared for task in _tasks(one.data_set.name, one.pairs, journal)]
        with progress(len(tasks)) as advance, contextlib.closing(work(tasks, jobs=jobs)) as results:
            for done in results:
                for record in done.records:
                    journal.add(record)
                for method in (*done.unchanged, *(record.method for record in done.records)):
                    name = done.task.name
                    scored[done.task.data_set][method][name] = journal.records[done.task.data_set, method, name]
                faults += done.faults
                advance()
    evaluation = Evaluation([_result(one, scored[one.data_set.name], common_only, faults) for one in prepared], faults)
    write(evaluation, out)
    return evaluation


def write(evaluation: Evaluation, out: str | os.PathLike) -> None:
    """Writes every file of `score` but the journal."""
    out = Path(out)
    tables.write(evaluation, out)
    drawn = {result.data_set.name: figures.write(result, out / "curves") for result in evaluation.results}
    report.write(evaluation, drawn, out / "report.html")


def _tasks(data_set, pairs, journal):
    for name, mask in pairs.masks.items():
        maps = {method: files[name] for method, files in pairs.maps.items() if name in files}
        records = {method: journal.records.get((data_set, method, name)) for method in maps}
        known = {method: record.sums for method, record in records.items() if record}
        if maps:
            yield Task(data_set, name, mask, maps, known)


def _result(prepared, records, common_only, faults):
    data_set = prepared.data_set
    if common_only:
        common = set.intersection(*(set(own) for own in records.values()))
        records = {
            method: {name: record for name, record in own.items() if name in common} for method, own in records.items()
        }
    for method, own in records.items():
        if not own:
            which = "is common to all methods" if common_only else "could be scored"
            listed = "".join(f"\n  {fault.message}" for fault in faults[:20])
            raise DataError(f"{data_set.name}: no map of {method} {which}.{listed}")
    groups = {method: by_group(own.values()) for method, own in records.items()} if data_set.grouped else {}
    return Result(
        data_set,
        prepared.pairs,
        records,
        {method: means(own.values()) for method, own in records.items()},
        groups,
        {method: over_groups(own.values()) for method, own in groups.items()},
        prepared.published,
    )
