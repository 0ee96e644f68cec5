"""Check all files in parallel before training, and report all their problems at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from keras_recnet.errors import ImageError
from keras_recnet.imaging.reading import SWAPPING, open_image, turn_of
from keras_recnet.pipelines.pair_reading import read_pair, same_proportions, size_problem
from keras_recnet.pipelines.pairs import Pair, PipelineDataError

Progress = Callable[[int, int], object]


def check_pairs(
    pairs: Sequence[Pair], *, decode: bool = False, workers: int = 2, progress: Progress | None = None
) -> None:
    """Find every faulty file before training.

    Checks each file's existence, format and size, and the checksums of PNGs (seconds for ten thousand pairs). With
    `decode=True` every pixel is read, which also finds damaged files of other formats and masks that are not masks
    (half a minute; filling the memory cache does the same).

    Args:
        pairs: the pairs, see `find_pairs`.
        decode: whether to decode the files.
        workers: number of threads.
        progress: called as `progress(done, total)` after each pair.

    Raises:
        PipelineDataError: with all problems of all pairs.
    """
    for_all(read_checked if decode else check_files, pairs, workers, progress)


def read_checked(pair: Pair, at_least: int | None = None):
    """`check_files`, then `read_pair`."""
    check_files(pair)
    return read_pair(pair, at_least)


def for_all(function: Callable, items: Sequence, workers: int, progress: Progress | None = None) -> None:
    """Call `function(item)` for all items in threads, then raise the problems of all of them at once.

    Threads are enough, because Pillow releases the interpreter lock while it decodes and resizes.
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
        for done, new in enumerate(pool.map(problems_of, items), start=1):
            problems += new
            if progress is not None:
                progress(done, len(items))
    finally:
        # Otherwise Ctrl-C would wait for all queued files.
        pool.shutdown(cancel_futures=True)
    if problems:
        raise PipelineDataError(problems)


def check_files(pair: Pair) -> None:
    """Raise the problems of a pair that can be seen without decoding."""
    problems, sizes = [], []
    for path in (pair.image,) if pair.mask is None else (pair.image, pair.mask):
        try:
            with open_image(path) as file:
                # Pillow decodes a PNG to find its orientation; here both orientations are accepted instead.
                either_way = file.format == "PNG" or turn_of(file) in SWAPPING
                sizes.append([file.size, file.size[::-1]] if either_way else [file.size])
                # Decoding does not check a PNG's checksums. `verify` closes the file, so it comes last.
                file.verify()
        except ImageError as error:
            problems.append(str(error))
    if problems:
        raise PipelineDataError(problems)
    if pair.mask is None:
        return
    image_sizes, mask_sizes = sizes
    if not any(same_proportions(mask, image) for mask in mask_sizes for image in image_sizes):
        raise PipelineDataError([size_problem(pair, mask_sizes[0], image_sizes[0])])
