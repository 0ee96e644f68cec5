"""Read and score files in several processes.

One task is one mask with the maps of all methods, so that each mask is read once.
"""

import dataclasses
import hashlib
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

from keras_recnet.errors import DataError, ImageError
from keras_recnet.evaluation.datasets import Fault
from keras_recnet.evaluation.map_files import load, read_map, read_mask
from keras_recnet.evaluation.result_log import Record
from keras_recnet.evaluation.scoring import score
from keras_recnet.parallel import ordered_map


@dataclasses.dataclass(frozen=True)
class Task:
    """A mask and its maps.

    Attributes:
        data_set, name: names of the dataset and the image.
        mask: the mask file.
        maps: method → map file.
        known: method → SHA-256 checksums (mask, map) of an earlier result, which is reused if they are unchanged.
    """

    data_set: str
    name: str
    mask: Path
    maps: dict[str, Path]
    known: dict[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The new scores of a task, the methods whose earlier result is still valid, and the files that failed."""

    task: Task
    records: list[Record]
    unchanged: list[str]
    faults: list[Fault]


def run_task(task: Task) -> TaskResult:
    """Score the maps of one mask. Files that cannot be read are returned as faults."""
    result = TaskResult(task, [], [], [])
    try:
        mask_data = load(task.mask)
        mask_sum, mask = _checksum(mask_data), None
        for method, path in task.maps.items():
            try:
                data = load(path)
                sums = (mask_sum, _checksum(data))
                if task.known.get(method) == sums:
                    result.unchanged.append(method)
                    continue
                mask = _mask(mask, mask_data, task)
                result.records.append(_record(task, method, sums, mask, data))
            except _MaskError:
                raise
            except (ImageError, MemoryError) as error:
                result.faults.append(Fault(task.data_set, "unreadable", _message(error, path), method))
    except (ImageError, MemoryError) as error:
        result.faults.append(Fault(task.data_set, "unreadable", _message(error, task.mask)))
    return result


def work(tasks: Iterable[Task], *, jobs: int) -> Iterator[TaskResult]:
    """Run tasks in `jobs` processes (1: in this process) and yield the results in order.

    Raises:
        DataError: if a process was killed.
    """
    if jobs == 1:
        yield from map(run_task, tasks)
        return
    methods = multiprocessing.get_all_start_methods()
    # A fork of this process could inherit a lock that is held by another thread. The fork server has no threads, and
    # imports pysodmetrics once for all workers.
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_initialize)
    try:
        with closing(ordered_map(run_task, tasks, workers=2 * jobs, executor=executor)) as results:
            yield from results
    except BrokenProcessPool as error:
        raise DataError(
            "A scoring process was killed, possibly for lack of memory. All scores so far are kept. Run the same "
            "command to resume, with --jobs 1 to use less memory."
        ) from error


class _MaskError(ImageError):
    """The mask of a task cannot be read, so none of its maps can be scored."""


def _mask(mask, data, task):
    if mask is not None:
        return mask
    try:
        return read_mask(data, str(task.mask))
    except ImageError as error:
        raise _MaskError(str(error)) from error


def _record(task, method, sums, mask, data):
    saliency_map, notes = read_map(data, str(task.maps[method]))
    scores = score(saliency_map, mask)
    return Record(
        task.data_set, method, task.name, sums, mask.shape, scores.values, scores.counts, [*notes, *scores.notes]
    )


def _message(error, path):
    return f"{path}: not enough memory to score it. Try --jobs 1." if isinstance(error, MemoryError) else str(error)


def _checksum(data):
    return hashlib.sha256(data).hexdigest()


def _initialize():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    import cv2

    cv2.setNumThreads(1)  # the processes already use all cores
