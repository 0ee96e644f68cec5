"""Pairs decoded once into one array in memory."""

import numpy as np
from keras_recnet.pipelines.pairs import PipelineDataError
from keras_recnet.pipelines.reading import for_all, read_pair
from keras_recnet.pipelines.resizing import resize

# What must stay free beside the cache: the training itself needs memory too.
RESERVE = 512 * 2**20


def fill_cache(pairs, size, *, workers=2, progress=None):
    """Decodes all pairs into one array.

    Args:
        pairs: sequence of `Pair`.
        size: `(height, width)` that images and masks are resized to.
        workers: number of threads.
        progress: called as `progress(done, total)` after each pair.

    Returns:
        `(pairs, height, width, 4)` uint8: RGB and the mask in the fourth channel.

    Raises:
        PipelineDataError: naming every file that cannot be used, or when the array does not fit in the free memory.
    """
    needed = len(pairs) * size[0] * size[1] * 4
    available = available_memory()
    if available is not None and needed + RESERVE > available:
        raise PipelineDataError(
            [
                f"caching {len(pairs)} pairs at {size[0]}×{size[1]} takes {needed / 2**30:.2f} GiB, "
                f"and {max(available - RESERVE, 0) / 2**30:.2f} GiB of memory are free for it"
            ],
            "Decode from disk instead (`cache: none`), or make `cache_size` smaller.",
        )
    array = np.empty((len(pairs), *size, 4), np.uint8)
    rows = {id(pair): row for row, pair in enumerate(pairs)}

    def fill(pair):
        image, mask = read_pair(pair)
        row = array[rows[id(pair)]]
        row[..., :3] = resize(image, size)
        row[..., 3] = resize(mask, size)

    for_all(fill, pairs, workers, progress)
    return array


def available_memory():
    """Bytes that can still be allocated, the container's limit included, or None where the system does not tell."""
    limits = []
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            with open(limit) as limit_file, open(used) as used_file:
                limits.append(int(limit_file.read()) - int(used_file.read()))
        except (OSError, ValueError):  # No container, or "max": no limit of its own.
            continue
    return min(limits)
