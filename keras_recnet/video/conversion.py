"""Write the masks, cutouts or overlays of a video, in constant memory."""

import contextlib
import os
import sys
from collections.abc import Callable

from keras_recnet.errors import ImageError
from keras_recnet.files import atomic_path
from keras_recnet.imaging.reading import DecodedImage
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.inference.inputs import STANDARD_STREAM
from keras_recnet.inference.outputs import OutputWriter
from keras_recnet.parallel import cores, ordered_map
from keras_recnet.video.reading import import_av
from keras_recnet.video.smoothing import MapSmoother
from keras_recnet.video.writing import RawWriter, VideoWriter

# Cutouts at this size take half as long as at the default of 1024, with hardly a visible difference.
WORKING_SIDE = 512


def convert_video(
    reader,
    out: str | os.PathLike,
    predictor,
    kind: str,
    drawing: OutputWriter,
    *,
    every: int = 1,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda frames: None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Predict the map of each frame of a video, draw it and write the resulting video.

    Decoding, prediction, drawing and encoding run in parallel; about 4 · `workers` frames are in memory. The file is
    renamed from a temporary name when it is complete.

    Args:
        reader: a `VideoReader` or `RawReader`.
        out: the output file, or `"-"` to write raw frames to standard output.
        predictor: a `Predictor`.
        kind: one of `keras_recnet.video.KINDS`.
        drawing: refines the maps and draws the output.
        every: use every Nth frame and drop the others.
        workers: number of threads for each of prediction and drawing; None: available CPU cores.
        advance: called for a progress bar with the number of newly finished frames.
        stop: called after each frame. If it returns True, the video ends with this frame.

    Returns:
        The number of frames written.

    Raises:
        DiskError: if the disk is full or the output folder is not writable. No file is left.
        OSError: if the output cannot be written for another reason.
    """
    convert = _Conversion(reader, predictor, kind, drawing, every, workers or cores())
    if out == STANDARD_STREAM:
        return convert(RawWriter(sys.stdout.buffer), advance, stop)
    transparent = kind == "cutout" and drawing.background is None
    # PyAV could open the file itself, but would not report all write errors, such as those of a full disk
    av = import_av(out)
    try:
        with atomic_path(out) as temporary, open(temporary, "wb") as file:
            return convert(VideoWriter(file, out, reader, transparent=transparent), advance, stop)
    except av.FFmpegError as error:
        raise ImageError(
            f"{out}: the video cannot be written in this format ({error}). Try another suffix, such as .webm or .mov."
        ) from error


class _Conversion:
    def __init__(self, reader, predictor, kind, drawing, every, workers):
        self._reader, self._predictor, self._kind, self._drawing = reader, predictor, kind, drawing
        self._every, self._workers = every, workers

    def __call__(self, writer, advance, stop):
        def draw(item):
            time, rgb, saliency_map = item
            saliency_map = resize_map(self._drawing.refine(saliency_map), self._reader.size)
            decoded = DecodedImage(rgb, self._reader.size)
            return time, writer.convert(self._drawing.draw(self._kind, decoded, saliency_map))

        count = 0
        with (
            writer,
            contextlib.closing(ordered_map(self._predict, self._frames(writer), workers=self._workers)) as predicted,
            contextlib.closing(ordered_map(draw, _smoothed(predicted), workers=self._workers)) as drawn,
        ):
            for time, frame in drawn:
                writer.write(frame, time)
                count += 1
                advance(self._every)
                if stop():
                    break
            writer.finish()
        return count

    def _frames(self, writer):
        for number, frame in enumerate(self._reader.frames(writer.write_audio)):
            if number % self._every == 0:
                yield frame

    def _predict(self, frame):
        rgb, size = frame.rgb(self._reader.size), self._predictor.engine.size
        saliency_map = self._predictor.predict(DecodedImage(resize(rgb, size), size), parallel=self._workers > 1)
        return frame.time, rgb, saliency_map


def _smoothed(predicted):
    smooth = MapSmoother()
    for time, rgb, saliency_map in predicted:
        yield time, rgb, smooth(saliency_map)
