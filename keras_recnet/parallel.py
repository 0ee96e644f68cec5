"""Parallel map that keeps the order and bounds memory."""

import collections
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path


def cores() -> int:
    """Return the number of CPU cores available to this process."""
    if hasattr(os, "sched_getaffinity"):  # missing on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(function: Callable, items: Iterable, *, workers: int, executor: Executor | None = None) -> Iterator:
    """Yield `function(item)` for each item in order, computed by `workers` threads or by `executor`.

    At most `2 * workers` items are read ahead, so infinite iterables work and memory is bounded. An exception is raised
    in place of the item's result. On an exception, and when the iterator is closed, pending calls are cancelled.
    The executor is shut down at the end, after running calls have finished.
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
        executor.shutdown(cancel_futures=True)


def child_python(code: str, *arguments: str, **environment: str) -> dict:
    """Return keyword arguments for `subprocess.run` or `Popen` to run Python code with this copy of the library.

    Otherwise, the child could import a different copy, for example an installed package instead of the checkout in the
    current folder.

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
