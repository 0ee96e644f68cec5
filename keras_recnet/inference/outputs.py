"""Predict many images and write their outputs: the work of `keras-recnet predict`."""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.imaging import KINDS_OF_THE_MAP, cropping, cutout, drawing, objects
from keras_recnet.imaging.reading import DecodedImage, read
from keras_recnet.imaging.writing import encode, write
from keras_recnet.inference.inputs import STANDARD_STREAM, ImageJob
from keras_recnet.parallel import cores, ordered_map

# output types that show the image's colors and keep its ICC profile
_COLOR_KINDS = ("cutout", "crop", "overlay", "attention")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Python or OpenCV could not allocate memory."""
    return isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem)


@dataclasses.dataclass
class Result:
    """The result for one image, or for the contact sheet of a group.

    Attributes:
        source: path of the image, or `"-"`; for a sheet the group's folder or pattern.
        outputs: output type → file that exists now.
        size: `(height, width)` of the image; None if it was not read.
        box: `(left, top, right, bottom)` of the object, see `keras_recnet.imaging.objects.object_box`; None if no map
            was computed or the map has no object.
        center: `(x, y)`, the object's center of mass, see `keras_recnet.imaging.objects.object_center`; None if `box`
            is None.
        seconds: processing time, including the time spent waiting for the network.
        skipped: whether all outputs existed before.
        error: why the image failed, or None.
        group: name of the image's group, or None.
        variance: variance of the image's map over the orders, averaged over its pixels; None for a single order.
        note: a remark, such as that no object was found, or None.
    """

    source: str
    outputs: dict[str, Path | str] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] | None = None
    box: tuple[int, int, int, int] | None = None
    center: tuple[float, float] | None = None
    seconds: float = 0.0
    skipped: bool = False
    error: str | None = None
    group: str | None = None
    variance: float | None = None
    note: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether the result is for an image, not for a contact sheet."""
        return "sheet" not in self.outputs

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Measure the time of the block, and record an error that concerns this image alone.

        Other errors, such as a `DiskError`, are raised.
        """
        start = time.perf_counter()
        try:
            yield
        except (MemoryError, cv2.error) as error:
            if not is_out_of_memory(error):
                raise
            self.error = f"{self.source}: not enough memory for this image. Process fewer at a time (--jobs 1)."
        except (ImageError, MissingExtraError) as error:
            self.error = str(error)
        except OSError as error:  # concerns this file alone: a name too long, a file instead of a folder
            self.error = f"{self.source}: its output cannot be written ({error})."
        self.seconds = time.perf_counter() - start

    def locate(self, saliency_map: np.ndarray, outputs: dict) -> None:
        """Set `box` and `center` from a map, float32 `(H, W)` in 0…1, and `note` if there is no object to crop to."""
        self.box, self.center = objects.object_box(saliency_map), objects.object_center(saliency_map)
        if self.box is None and "crop" in outputs:
            self.note = f"{self.source}: no object was found, so it was cropped to --aspect only, if given"

    def as_json(self) -> dict:
        """Return plain values for `json.dumps`."""
        values = dataclasses.asdict(self)
        if self.group is None:
            del values["group"], values["variance"]
        values["outputs"] = {kind: os.fspath(path) for kind, path in self.outputs.items()}
        values["seconds"] = round(self.seconds, 4)
        if self.center is not None:
            values["center"] = [round(value, 1) for value in self.center]
        return values


@dataclasses.dataclass(frozen=True)
class OutputWriter:
    """Draws the outputs of an image and writes them to files.

    Args:
        threshold: for `binary`, see `keras_recnet.imaging.drawing.binary`.
        background: for `cutout`: None (transparent), (red, green, blue), or an image, uint8 `(h, w, 3)`.
        pixel: for `attention`: (row, column) in the image; None: its most salient pixel.
        margin: for `crop`, see `keras_recnet.imaging.cropping.crop_box`.
        aspect: for `crop`, see `keras_recnet.imaging.cropping.crop_box`.
        largest: whether to keep only the largest object of each map.
        fill_holes: whether to fill holes in the objects.
        working_side: for `cutout`, see `keras_recnet.imaging.cutout.cutout`.
        skip_existing: whether to leave existing files as they are.

    Attributes:
        written: the files written so far.
    """

    threshold: float | str = 0.5
    background: tuple[int, int, int] | np.ndarray | None = None
    pixel: tuple[int, int] | None = None
    margin: float = cropping.MARGIN
    aspect: float | None = None
    largest: bool = False
    fill_holes: bool = False
    working_side: int = cutout.WORKING_SIDE
    skip_existing: bool = False
    written: list[Path | str] = dataclasses.field(default_factory=list, init=False)

    def missing(self, outputs: dict) -> dict:
        """Return the outputs that have to be written."""
        if not self.skip_existing:
            return outputs
        return {kind: path for kind, path in outputs.items() if not os.path.exists(path)}

    def refine(self, saliency_map: np.ndarray) -> np.ndarray:
        """Apply `largest` and `fill_holes` to a map, float32 `(H, W)` in 0…1."""
        if self.largest:
            saliency_map = objects.largest_object(saliency_map)
        return objects.fill_holes(saliency_map) if self.fill_holes else saliency_map

    def save(self, outputs: dict, decoded: DecodedImage, saliency_map: np.ndarray, predictor=None) -> None:
        """Draw and write the outputs of an image.

        Args:
            outputs: output type → path.
            decoded: the image, in full size if a type shows its colors.
            saliency_map: float32 `(H, W)` in 0…1.
            predictor: a `Predictor`, for `attention` only.
        """
        for kind, path in outputs.items():
            if kind == "attention":
                drawn = self._draw_attention(predictor, decoded, saliency_map)
            else:
                drawn = self.draw(kind, decoded, saliency_map)
            write(encode(drawn, path, profile=decoded.profile if kind in _COLOR_KINDS else None), path)
            self.written.append(path)

    def draw(self, kind: str, decoded: DecodedImage, saliency_map: np.ndarray) -> np.ndarray:
        """Draw an output other than `attention`: uint8, gray, RGB or RGBA.

        Args:
            kind: the output type.
            decoded: as for `save`.
            saliency_map: as for `save`.
        """
        if kind == "mask":
            return drawing.to_8_bits(saliency_map)
        if kind == "binary":
            return drawing.binary(saliency_map, self.threshold)
        if kind == "heatmap":
            return drawing.heatmap(saliency_map)
        if kind == "overlay":
            return drawing.overlay(decoded.rgb, saliency_map)
        if kind == "crop":
            box = objects.object_box(saliency_map)
            left, top, right, bottom = cropping.crop_box(box, decoded.size, margin=self.margin, aspect=self.aspect)
            return decoded.rgb[top:bottom, left:right]
        drawn = cutout.cutout(decoded.rgb, saliency_map, decoded.alpha, working_side=self.working_side)
        return drawn if self.background is None else cutout.on_background(drawn, self.background)

    def _draw_attention(self, predictor, decoded, saliency_map):
        pixel = self.pixel or tuple(map(int, np.unravel_index(saliency_map.argmax(), saliency_map.shape)))
        return drawing.attention(decoded.rgb, predictor.attention(decoded, pixel), pixel)


def write_maps(
    predictor,
    jobs: Iterable[ImageJob],
    writer: OutputWriter,
    *,
    workers: int | None = None,
    advance: Callable[[float], None] = lambda images: None,
) -> Iterator[Result]:
    """Predict images and write their outputs.

    An image that cannot be read yields a result with an error; the others are still processed.

    Args:
        predictor: a `Predictor`.
        jobs: the images and the files to write.
        writer: draws and writes the outputs.
        workers: number of threads; None: one more than the process has cores.
        advance: called for a progress bar with the number of newly finished images.

    Yields:
        A `Result` per job, in order.

    Raises:
        DiskError: if the disk is full or the output folder is not writable; the remaining jobs are dropped.
    """
    workers = workers or cores() + 1

    def with_input(job):
        # a thread that waits for standard input could not be interrupted
        waits = job.source == STANDARD_STREAM and writer.missing(job.outputs)
        return job, sys.stdin.buffer.read() if waits else None

    def process(job_and_input):
        job, from_input = job_and_input
        missing = writer.missing(job.outputs)
        if not missing:
            return Result(job.source, job.outputs, skipped=True)
        result = Result(job.source)
        with result.recording():
            data, name = job.source, job.source
            if job.source == STANDARD_STREAM:
                data, name = from_input, "standard input"
            fit = predictor.engine.size if KINDS_OF_THE_MAP.issuperset(missing) else None
            decoded = read(data, fit=fit, max_pixels=predictor.max_pixels, name=name)
            if "attention" in missing and writer.pixel:
                _check_pixel(writer.pixel, decoded.size, name)
            saliency_map = writer.refine(predictor.predict(decoded, parallel=workers > 1))
            result.locate(saliency_map, missing)
            writer.save(missing, decoded, saliency_map, predictor)
            result.outputs, result.size = job.outputs, decoded.size
        return result

    with contextlib.closing(ordered_map(process, map(with_input, jobs), workers=workers)) as results:
        for result in results:
            advance(1)
            yield result


def _check_pixel(pixel, size, name):
    (row, column), (height, width) = pixel, size
    if row >= height or column >= width:
        raise ImageError(f"{name}: --pixel {column},{row} is outside this image of {width} × {height} pixels.")
