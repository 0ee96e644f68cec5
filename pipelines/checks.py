"""Check all files in parallel before training, and report all their problems at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from keras_recnet.errors import ImageError
from keras_recnet.imaging.reading import SWAPPING, open_image, turn_of
from keras_recnet.parallel import cores
from keras_recnet.pipelines.pair_reading import Pair, PipelineDataError, read_pair, same_proportions, size_problem

Progress = Callable[[int, int], object]


def check_pairs(
    pairs: Sequence[Pair], *, decode: bool = False, workers: int = 2, progress: Progress | None = None
) -> None:
    """Find every faulty file before training.

    Checks each file's existence, format and size, and the checksums of PNGs (seconds for ten thousand pairs). With
    `decode=True` every pixel is read, which also finds damaged files of other formats and mask files without a mask
    (half a minute).

    Args:
        pairs: the pairs, see `find_pairs`.
        decode: whether to decode the files.
        workers: number of threads.
        progress: called as `progress(done, total)` after each pair.

    Raises:
        PipelineDataError: with all problems of all pairs.
    """
    for_all(read_checked if decode else check_files, pairs, workers, progress)


def problems_of_files(pairs: Sequence[Pair]) -> list[str]:
    """Return the problems that `check_pairs` finds by decoding, to report them together with others."""
    try:
        check_pairs(list(dict.fromkeys(pairs)), decode=True, workers=cores())
    except PipelineDataError as error:
        return error.problems
    return []


def read_checked(pair: Pair, at_least: int | None = None):
    """Read a pair like `read_pair`; the error also contains the problems that `check_files` finds."""
    problems = []
    try:
        arrays = read_pair(pair, at_least)
    except PipelineDataError as error:
        problems += error.problems
    try:
        check_files(pair)
    except PipelineDataError as error:
        # both may report the same fault of a file in different words
        named = {problem.partition(": ")[0] for problem in problems}
        problems += [problem for problem in error.problems if problem.partition(": ")[0] not in named]
    if problems:
        raise PipelineDataError(problems)
    return arrays


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
    problems, sizes = [], {}
    for path in filter(None, (pair.image, pair.mask, pair.teacher_map)):
        try:
            with open_image(path) as file:
                # Pillow would decode a PNG to find its orientation; to avoid that, both orientations are accepted.
                either_way = file.format == "PNG" or turn_of(file) in SWAPPING
                sizes[path] = [file.size, file.size[::-1]] if either_way else [file.size]
                # Decoding does not check a PNG's checksums. `verify` closes the file, so it comes last.
                file.verify()
        except ImageError as error:
            problems.append(str(error))
    for path in (pair.mask, pair.teacher_map):
        if path in sizes and pair.image in sizes:
            mask_sizes, image_sizes = sizes[path], sizes[pair.image]
            if not any(same_proportions(mask, image) for image in image_sizes for mask in mask_sizes):
                problems.append(size_problem(path, mask_sizes[0], pair.image, image_sizes[0]))
    if problems:
        raise PipelineDataError(problems)
