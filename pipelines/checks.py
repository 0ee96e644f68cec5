"""All files looked at in parallel before a training starts, and all their problems told at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from keras_recnet.pipelines.pair_reading import (
    SIDES_SWAPPED,
    opened,
    orientation_of,
    read_pair,
    same_proportions,
    size_problem,
)
from keras_recnet.pipelines.pairs import Pair, PipelineDataError

Progress = Callable[[int, int], object]


def check_pairs(
    pairs: Sequence[Pair], *, decode: bool = False, workers: int = 2, progress: Progress | None = None
) -> None:
    """Finds every faulty file before a training starts.

    Looks at each file's existence, kind and size, and at the checksums of PNGs (seconds for ten thousand pairs); with
    `decode=True` it also reads every pixel, which finds damaged files of other kinds and masks that are none (half a
    minute; filling the memory cache does the same on its way).

    Args:
        pairs: what `find_pairs` gave.
        decode: whether to decode the files.
        workers: number of threads.
        progress: called as `progress(done, total)` after each pair.

    Raises:
        PipelineDataError: with all problems of all pairs.
    """
    for_all(read_checked if decode else check_files, pairs, workers, progress)


def read_checked(pair, at_least=None):
    """`read_pair` for the first time."""
    check_files(pair)
    return read_pair(pair, at_least)


def for_all(function, items, workers, progress=None):
    """Calls `function(item)` for all items in threads, then raises the problems of all of them at once.

    Threads do, since Pillow lets go of the interpreter while it decodes and resizes.
    """

    def problems_of(item):
        try:
            function(item)
        except PipelineDataError as error:
            return error.problems
        return []

    problems = []
    pool = ThreadPoolExecutor(workers)
    try:
        for done, found in enumerate(pool.map(problems_of, items), start=1):
            problems += found
            if progress is not None:
                progress(done, len(items))
    finally:
        # Without this, Ctrl-C would wait for all files that are still queued.
        pool.shutdown(cancel_futures=True)
    if problems:
        raise PipelineDataError(problems)


def check_files(pair):
    """Raises the problems of a pair that show without decoding."""
    problems, sizes = [], []
    for path in (pair.image,) if pair.mask is None else (pair.image, pair.mask):
        try:
            with opened(path) as file:
                # Pillow decodes a PNG to find its orientation; here both ways round are let through instead.
                either_way = file.format == "PNG" or orientation_of(file) in SIDES_SWAPPED
                sizes.append([file.size, file.size[::-1]] if either_way else [file.size])
                # Decoding does not compare a PNG's checksums. This closes the file, so it comes last.
                file.verify()
        except PipelineDataError as error:
            problems += error.problems
    if problems:
        raise PipelineDataError(problems)
    if pair.mask is None:
        return
    image_sizes, mask_sizes = sizes
    if not any(same_proportions(mask, image) for mask in mask_sizes for image in image_sizes):
        raise PipelineDataError([size_problem(pair, mask_sizes[0], image_sizes[0])])
