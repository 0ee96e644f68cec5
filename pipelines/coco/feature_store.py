"""Compute global features of photos in parallel, and keep them in a file for the next run."""

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np

from keras_recnet.errors import ImageError
from keras_recnet.files import atomic_path
from keras_recnet.imaging.reading import read
from keras_recnet.pipelines.checks import Progress
from keras_recnet.pipelines.coco.similarity import GIST_SIZE, gist, lab_histogram
from keras_recnet.pipelines.pair_reading import PipelineDataError

# Increase this number when the features change: files of other versions are recomputed.
VERSION = 1
FEATURES = 1024


class FeatureStore:
    """GIST and Lab histogram of photos, each computed once and kept in a file.

    A photo is identified by its name, file size and modification time; if modified, its features are recomputed.

    Args:
        path: the `.npz` file. An unreadable file, or one of another version, is replaced.
        workers: number of processes; 1 computes in this process.
        save_every: seconds between writes of the file.

    Attributes:
        problems: name → why a photo has no features, from the last `compute`.
    """

    def __init__(self, path: str | os.PathLike, *, workers: int = 2, save_every: float = 20.0):
        self.path = Path(path)
        self.workers = workers
        self.save_every = save_every
        self.problems = {}
        self._known = self._load()

    def __len__(self) -> int:
        return len(self._known)

    def compute(self, files: Mapping[str, Path], *, progress: Progress | None = None) -> None:
        """Compute the missing features of `files`, name → photo.

        Raises:
            PipelineDataError: if a process was killed; finished features are kept.
        """
        self.problems = {}
        stamps = {name: _stamp(path) for name, path in files.items()}
        missing = [name for name in files if name not in self._known or self._known[name][0] != stamps[name]]
        done, saved = len(files) - len(missing), time.monotonic()
        if progress is not None and done:
            progress(done, len(files))
        try:
            for name, result in zip(missing, self._results([files[name] for name in missing]), strict=True):
                if isinstance(result, str):
                    self.problems[name] = result
                else:
                    self._known[name] = (stamps[name], *result)
                done += 1
                if time.monotonic() - saved >= self.save_every:
                    self._save()
                    saved = time.monotonic()
                if progress is not None:
                    progress(done, len(files))
        except BrokenProcessPool:
            raise PipelineDataError(
                ["a process that computes features was killed, perhaps because memory ran out"],
                "Start again to resume. One worker needs less memory.",
            ) from None
        finally:
            if missing:
                self._save()

    def features(self, name: str) -> np.ndarray:
        """`(1024,)` float32: GIST, then Lab histogram."""
        return self._known[name][2]

    def size(self, name: str) -> tuple[int, int]:
        """`(width, height)` as decoded: a large photo may have been shrunk by a factor."""
        return self._known[name][1]

    def _results(self, paths):
        if self.workers == 1 or len(paths) < 2:
            yield from map(features_of, paths)
            return
        # Forked processes would inherit locks held by threads of this process.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        try:
            yield from pool.map(features_of, paths, chunksize=8)
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self):
        try:
            # Opened here, because NumPy does not close a damaged file.
            with open(self.path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                if file["version"] != VERSION or file["features"].shape[1:] != (FEATURES,):
                    return {}
                stamps, sizes, features = (file[key] for key in ("stamps", "sizes", "features"))
                rows = zip(file["names"].tolist(), stamps.tolist(), sizes.tolist(), features, strict=True)
                return {name: (tuple(stamp), tuple(size), row) for name, stamp, size, row in rows}
        except Exception:  # a damaged file is ignored
            return {}

    def _save(self):
        stamps, sizes, features = zip(*self._known.values(), strict=True) if self._known else ((), (), ())
        with atomic_path(self.path) as temporary:
            np.savez(
                temporary,
                version=VERSION,
                names=np.array(list(self._known), dtype=np.str_),
                stamps=np.array(stamps, np.int64).reshape(-1, 2),
                sizes=np.array(sizes, np.int64).reshape(-1, 2),
                features=np.array(features, np.float32).reshape(-1, FEATURES),
            )


def features_of(path: Path) -> tuple[tuple[int, int], np.ndarray] | str:
    """`((width, height), features)` of a photo, or the reason why there are none."""
    try:
        image = read(path, at_least=GIST_SIZE).rgb
    except ImageError as error:
        return str(error)
    return image.shape[1::-1], np.concatenate([gist(image), lab_histogram(image)])


def _start_worker():
    # Ctrl-C reaches every process of a terminal; the parent process ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _stamp(path):
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
