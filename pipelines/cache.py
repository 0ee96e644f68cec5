"""Decode all pairs once into one array in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_recnet.imaging.resizing import resize
from keras_recnet.pipelines.checks import Progress, for_all, read_checked
from keras_recnet.pipelines.pair_reading import Pair, PipelineDataError

# Memory that must stay free for training.
RESERVE = 512 * 2**20


def fill_cache(
    pairs: Sequence[Pair], size: tuple[int, int], *, workers: int = 2, progress: Progress | None = None
) -> np.ndarray:
    """Decode all pairs into one array.

    Args:
        pairs: the pairs, see `find_pairs`.
        size: `(height, width)` to resize images and masks to.
        workers: number of threads.
        progress: called as `progress(done, total)` after each pair.

    Returns:
        uint8 `(pairs, height, width, 4)`: RGB, with the mask in the fourth channel.

    Raises:
        PipelineDataError: if files cannot be used (names them all) or the array does not fit in the free memory.
    """
    needed = len(pairs) * size[0] * size[1] * 4
    available = available_memory()
    if available is not None and needed + RESERVE > available:
        raise PipelineDataError(
            [
                f"caching {len(pairs)} pairs at {size[0]}×{size[1]} takes {needed / 2**30:.2f} GiB of memory, and "
                f"{max(available - RESERVE, 0) / 2**30:.2f} GiB are free for it"
            ],
            "Decode from disk instead (`cache: none`), or choose a smaller `cache_size`.",
        )
    array = np.empty((len(pairs), *size, 4), np.uint8)

    def fill(row):
        image, mask = read_checked(pairs[row], at_least=2 * max(size))
        array[row, ..., :3] = resize(image, size)
        array[row, ..., 3] = resize(mask, size)

    for_all(fill, range(len(pairs)), workers, progress)
    return array


def available_memory(root: str | Path = "/") -> int | None:
    """Memory that can still be allocated, in bytes, including container limits; None if unknown."""
    root = Path(root)
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return None
    group = root / "sys/fs/cgroup"
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            statistics = dict(
                line.split() for line in (group / limit).with_name("memory.stat").read_text().splitlines()
            )
            # The page cache counts as used, but is freed on demand.
            taken = int((group / used).read_text()) - int(statistics.get(cached, 0))
            free.append(int((group / limit).read_text()) - taken)
        except (OSError, ValueError):  # no container, or "max": no limit
            continue
    return min(free, default=None)
