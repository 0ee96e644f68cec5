"""A bar on the terminal for each stage of a long work."""

import contextlib
import sys
from collections.abc import Callable, Iterator

# Called as progress(stage, done, total).
StageProgress = Callable[[str, int, int], object]


@contextlib.contextmanager
def stage_bars() -> Iterator[StageProgress | None]:
    """Shows progress on stderr; gives None, and shows nothing, where that is no terminal.

    Example:
        >>> with stage_bars() as progress:
        ...     make_coco_groups(annotations, images, out, progress=progress)
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {}

        def advance(stage, done, total):
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield advance
