"""Processes that read and score: one task is one mask with the maps of all methods, so a mask is read once."""

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
from keras_recnet.parallel import ordered


@dataclasses.dataclass(frozen=True)
class Task:
    """A mask and its maps.

    Attributes:
        data_set, name: which.
        mask: the file.
        maps: method → file.
        known: method → SHA-256 sums (mask, map) of an earlier result: where they still hold, nothing is computed.
    """

    data_set: str
    name: str
    mask: Path
    maps: dict[str, Path]
    known: dict[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of a task: new results, methods whose earlier result holds, and faults."""

    task: Task
    records: list[Record]
    unchanged: list[str]
    faults: list[Fault]


def do(task: Task) -> Done:
    """Does one task; a file that cannot be read is a fault, and the others are scored."""
    done = Done(task, [], [], [])
    try:
        mask_data = load(task.mask)
        mask_sum, mask = _sum(mask_data), None
        for method, path in task.maps.items():
            try:
                data = load(path)
                sums = (mask_sum, _sum(data))
                if task.known.get(method) == sums:
                    done.unchanged.append(method)
                    continue
                mask = _mask(mask, mask_data, task)
                done.records.append(_record(task, method, sums, mask, data))
            except _MaskError:
                raise
            except (ImageError, MemoryError) as error:
                done.faults.append(Fault(task.data_set, "unreadable", _message(error, path), method))
    except (ImageError, MemoryError) as error:
        done.faults.append(Fault(task.data_set, "unreadable", _message(error, task.mask)))
    return done


def work(tasks: Iterable[Task], *, jobs: int) -> Iterator[Done]:
    """Does the tasks in `jobs` processes, one meaning this very one; results come in the tasks' order.

    Raises:
        DataError: if a process was killed from outside, mostly for want of memory.
    """
    if jobs == 1:
        yield from map(do, tasks)
        return
    methods = multiprocessing.get_all_start_methods()
    # A fork of this process could hold a lock of one of its threads for ever. The fork server has no threads, and loads
    # pysodmetrics once for all workers.
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start)
    try:
        with closing(ordered(do, tasks, workers=2 * jobs, executor=executor)) as results:
            yield from results
    except BrokenProcessPool as error:
        raise DataError(
            "A scoring process was killed, perhaps for want of memory. What it had done is kept: the same command goes "
            "on; with --jobs 1 it needs less."
        ) from error


class _MaskError(ImageError):
    """Concerns all maps of a task."""


def _mask(mask, data, task):
    if mask is not None:
        return mask
    try:
        return read_mask(data, str(task.mask))
    except ImageError as error:
        raise _MaskError(str(error)) from error


def _record(task, method, sums, mask, data):
    saliency_map, notes = read_map(data, str(task.maps[method]))
    scored = score(saliency_map, mask)
    return Record(
        task.data_set, method, task.name, sums, mask.shape, scored.values, scored.counts, [*notes, *scored.notes]
    )


def _message(error, path):
    return f"{path}: not enough memory to score it. Try --jobs 1." if isinstance(error, MemoryError) else str(error)


def _sum(data):
    return hashlib.sha256(data).hexdigest()


def _start():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores already
