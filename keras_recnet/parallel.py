"""Work on many things at once, in order, with bounded memory."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor


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
