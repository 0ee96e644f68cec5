"""Parallel map that keeps the order and bounds memory, and the split of work over processes and machines."""

import collections
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds, or "max PERIOD" without a limit


def cores() -> int:
    """Return the number of CPU cores available to this process, at most the CPU limit of its container (cgroup v2)."""
    # the affinity is missing on macOS and Windows
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_LIMIT.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return count
    return max(1, min(count, round(quota / period)))


class Shard(NamedTuple):
    """One of several disjoint parts of a list of inputs, each processed by a separate command.

    Attributes:
        index: number of the part, 0…count − 1.
        count: number of parts.
    """

    index: int
    count: int

    def select(self, items: Sequence) -> Sequence:
        """Return every `count`-th item, starting at `index`; the sizes of two parts differ by at most one."""
        return items[self.index :: self.count]

    def __str__(self):
        return f"{self.index}/{self.count}"


def ordered_map(
    function: Callable,
    items: Iterable,
    *,
    workers: int,
    executor: Executor | None = None,
    on_end: Callable[[], object] = lambda: None,
) -> Iterator:
    """Yield `function(item)` for each item in order, computed by `workers` threads or by `executor`.

    At most `2 * workers` items are read ahead, so infinite iterables work and memory is bounded. An exception is raised
    in place of the item's result. On an exception, and when the iterator is closed, pending calls are cancelled.
    The executor is shut down at the end, after running calls have finished; `on_end` is called before, to stop them.
    """
    executor = executor or ThreadPoolExecutor(workers, thread_name_prefix="keras_recnet")
    pending = collections.deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        on_end()
        executor.shutdown(cancel_futures=True)


def child_python(code: str, *arguments: str, **environment: str) -> dict:
    """Return keyword arguments for `subprocess.run` or `Popen` to run Python code with this copy of the library.

    Without these arguments, the child could import a different copy, for example an installed package instead of the
    checkout in the current folder.

    Args:
        code: Python source, as for `python -c`.
        *arguments: `sys.argv[1:]` of the child.
        **environment: variables to set in addition to those of this process.

    Returns:
        `args` and `env`.
    """
    library = str(Path(__file__).parents[1])
    paths = [path for path in sys.path if path]  # without "", the current folder, which -P excludes too
    if library not in paths:
        paths.insert(0, library)
    return {
        "args": [sys.executable, "-P", "-c", code, *arguments],
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
    }
