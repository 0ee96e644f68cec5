"""Many pictures to files: what `keras-recnet predict` does between its options and its messages."""

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.imaging import KINDS_OF_THE_MAP, cutout, drawing
from keras_recnet.imaging.reading import Picture, read
from keras_recnet.imaging.writing import png, write
from keras_recnet.inference.inputs import STANDARD_STREAM, Task
from keras_recnet.parallel import cores, ordered


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a picture.

    Attributes:
        source: the picture's path, or `"-"`.
        outputs: kind → file, of those that are there now.
        size: `(height, width)` of the picture, None when it was not read.
        seconds: spent on it, waiting for the network included.
        skipped: all its outputs were there before.
        error: why it failed, or None.
    """

    source: str
    outputs: dict[str, Path | str]
    size: tuple[int, int] | None = None
    seconds: float = 0.0
    skipped: bool = False
    error: str | None = None

    # of results that are more than a picture's
    is_picture = True
    note = None

    def as_json(self) -> dict:
        """Plain values for `json.dumps`."""
        fields = dataclasses.asdict(self)
        return {
            **fields,
            "outputs": {kind: os.fspath(path) for kind, path in self.outputs.items()},
            "seconds": round(self.seconds, 4),
        }


@dataclasses.dataclass(frozen=True)
class Writer:
    """Draws and writes what was asked for.

    Args:
        predictor: the loaded network.
        threshold: of `binary`, see `keras_recnet.imaging.drawing.binary`.
        background: for `cutout`: None (transparent), (red, green, blue), or a picture, uint8 `(h, w, 3)`.
        skip_existing: leave out outputs that are there.
    """

    predictor: object
    threshold: float | str = 0.5
    background: tuple[int, int, int] | np.ndarray | None = None
    skip_existing: bool = False

    def missing(self, outputs: dict) -> dict:
        """Those of the outputs that are to be written."""
        if not self.skip_existing:
            return outputs
        return {kind: path for kind, path in outputs.items() if not os.path.exists(path)}

    def save(self, outputs: dict, picture: Picture, saliency_map: np.ndarray) -> None:
        """Draws and writes the outputs of one picture."""
        for kind, path in outputs.items():
            drawn = self.draw(kind, picture, saliency_map)
            write(png(drawn, profile=picture.profile if kind == "cutout" else None), path)

    def draw(self, kind: str, picture: Picture, saliency_map: np.ndarray) -> np.ndarray:
        """One output, uint8; `picture` is whole where the kind needs it."""
        if kind == "mask":
            return drawing.to_8_bits(saliency_map)
        if kind == "binary":
            return drawing.binary(saliency_map, self.threshold)
        if kind == "heatmap":
            return drawing.heatmap(saliency_map)
        if kind == "overlay":
            return drawing.overlay(picture.rgb, saliency_map)
        drawn = cutout.cutout(picture.rgb, saliency_map, picture.alpha)
        return drawn if self.background is None else cutout.on_background(drawn, self.background)


@dataclasses.dataclass(frozen=True)
class Batch(Writer):
    """Predicts pictures and writes what was asked for.

    Args:
        predictor: a `Predictor`; for this and the others see `Writer`.
        pixel: for `attention`: (row, column) in the picture; None: its most salient pixel.
    """

    pixel: tuple[int, int] | None = None

    def run(self, tasks: Iterable[Task], *, jobs: int | None = None) -> Iterator[Result]:
        """Does the tasks with `jobs` threads (None: one more than the process has cores); results come in their order.

        A picture that cannot be read is a result with an error; the others are done all the same.

        Raises:
            DiskError: if the disk is full or the output folder cannot be written; nothing more is done then.
        """
        jobs = jobs or cores() + 1
        return ordered(functools.partial(self.do, one_of_many=jobs > 1), tasks, workers=jobs)

    def do(self, task: Task, *, one_of_many: bool = False) -> Result:
        """Does one task; `one_of_many` as in `Predictor.of_picture`."""
        missing = self.missing(task.outputs)
        if not missing:
            return Result(task.source, task.outputs, skipped=True)
        return attempt(task, lambda: self._predict(task.source, missing, one_of_many))

    def _predict(self, source, outputs, one_of_many):
        predictor = self.predictor
        whole = not KINDS_OF_THE_MAP.issuperset(outputs)
        data, name = (sys.stdin.buffer.read(), "standard input") if source == STANDARD_STREAM else (source, source)
        picture = read(data, fit=None if whole else predictor.engine.size, max_pixels=predictor.max_pixels, name=name)
        self.save(outputs, picture, predictor.of_picture(picture, one_of_many=one_of_many))
        return picture.size

    def draw(self, kind, picture, saliency_map):
        if kind != "attention":
            return super().draw(kind, picture, saliency_map)
        height, width = picture.size
        pixel = self.pixel or tuple(map(int, np.unravel_index(saliency_map.argmax(), saliency_map.shape)))
        if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
            raise ImageError(f"--pixel {pixel[1]},{pixel[0]} lies outside this picture of {width} × {height} pixels.")
        return drawing.attention(picture.rgb, self.predictor.attention(picture, pixel), pixel)


def attempt(task: Task, work: Callable[[], tuple[int, int]]) -> Result:
    """Does the work on one picture, which gives its size; what is wrong with this picture alone becomes the result.

    Raises:
        DiskError: if nothing more can be written.
    """
    start = time.perf_counter()
    try:
        size = work()
    except (ImageError, MissingExtraError, MemoryError) as error:
        return Result(task.source, {}, seconds=time.perf_counter() - start, error=why(task.source, error))
    except OSError as error:  # what stands in the way of this one file: a name too long, a file for a folder
        error = f"{task.source}: its output cannot be written ({error})."
        return Result(task.source, {}, seconds=time.perf_counter() - start, error=error)
    return Result(task.source, task.outputs, size, time.perf_counter() - start)


def why(source: str, error: Exception) -> str:
    """What a user is told about a picture that failed."""
    if isinstance(error, MemoryError):
        return f"{source}: not enough memory for this picture. Work on fewer at once (--jobs 1)."
    return str(error)
