"""Work on many things at once, in order, with bounded memory."""

import collections
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered(function: Callable, items: Iterable, *, workers: int, executor: Executor | None = None) -> Iterator:
    """Yields `function(item)` for each item, in the items' order, computed by `workers` threads, or by `executor`.

    At most `2 * workers` items are taken ahead of the one that is yielded, so endless iterables work and memory stays
    bounded. An exception comes up at its item's turn; then, as when the iterator is closed, what has not been started
    is dropped and what runs is waited for. The executor is shut down at the end.
    """
    executor = executor or ThreadPoolExecutor(workers, thread_name_prefix="keras_recnet")
    waiting = collections.deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def child_python(code: str, *arguments: str, **environment: str) -> dict:
    """Return the arguments of `subprocess.run` or `Popen` that run Python code with this copy of the library.

    A child would otherwise import whatever `keras_recnet` it finds first: with an installed package and a checkout as
    the current folder, that can be the other copy.

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
