"""Read the frames of a video file, or of a pipe of raw RGB frames."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.imaging.reading import MAX_PIXELS

DEFAULT_RATE = Fraction(25)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        time: seconds since the start of the video.
        content: PyAV's frame, or raw pixels.
        turns: number of quarter turns, counterclockwise, that make the frame upright.
    """

    time: Fraction
    content: object
    turns: int = 0

    def rgb(self, size: tuple[int, int]) -> np.ndarray:
        """Convert the frame to upright pixels, uint8 `(H, W, 3)`. Several threads may do this for different frames.

        Args:
            size: `(height, width)` of the result. A frame of another size, which some streams contain, is resized.
        """
        if isinstance(self.content, np.ndarray):
            return self.content
        height, width = size[::-1] if self.turns % 2 else size
        pixels = self.content.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(pixels, self.turns))


class VideoReader:
    """Reads a video file frame by frame. A context manager.

    The rotation that phones store in their clips is applied, and frames with pixels that are not square are stretched.

    Args:
        path: the file. Only this file is read, so a playlist cannot refer to others.
        max_pixels: videos with larger frames are refused.

    Attributes:
        size: `(height, width)` of the upright frames.
        count: approximate number of frames; None if the file does not contain it.
        rate: average frame rate.
        time_base: unit of the time stamps in seconds.
        audio: the first audio stream, or None.

    Raises:
        ImageError: if the file cannot be read as a video, or is refused.
        MissingExtraError: if PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS):
        self._av, self.path, self._damaged = import_av(path), os.fspath(path), 0
        try:
            self._file = open(path, "rb")  # noqa: SIM115  # closed by close()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
        self._container = None
        try:
            self._open(max_pixels)
        except BaseException:
            self.close()
            raise

    def _open(self, max_pixels):
        try:
            self._container = self._av.open(self._file)
            streams = self._container.streams
            if not streams.video:
                raise ImageError(f"{self.path}: the file has no video stream.")
            self._video, self.audio = streams.video[0], next(iter(streams.audio), None)
            self._video.thread_type = "AUTO"
            self._check_size(self._video.height, self._video.width, max_pixels)
            packets = self._container.demux([stream for stream in (self._video, self.audio) if stream])
            self._items = self._decode(packets)
            # The rotation and, in some files, the size are known only after the first frame was decoded.
            self._waiting_audio, self._first = [], None
            for item in self._items:
                if isinstance(item, Frame):
                    self._first = item
                    break
                self._waiting_audio.append(item)
        except (self._av.FFmpegError, OSError) as error:
            raise ImageError(f"{self.path}: not a video that can be read ({error.strerror}).") from error
        if self._first is None:
            raise ImageError(f"{self.path}: no frame of this video can be decoded. It is empty or damaged.")
        self._describe(self._first)
        self._check_size(*self.size, max_pixels)

    def _check_size(self, height, width, max_pixels):
        if height * width > max_pixels:
            raise ImageError(
                f"{self.path}: refused, frames of {width} × {height} pixels are more than the limit of {max_pixels:,}. "
                f"If you trust the file, raise the limit (--max-pixels {width * height})."
            )

    def _describe(self, frame):
        height, width = frame.content.height, frame.content.width
        aspect = self._video.sample_aspect_ratio or 1  # width / height of a pixel
        if aspect > 1:
            width = round(width * aspect)
        else:
            height = round(height / aspect)
        self.size = (width, height) if frame.turns % 2 else (height, width)
        self.rate = self._video.average_rate or self._video.guessed_rate or DEFAULT_RATE
        self.time_base = self._video.time_base
        self.count = self._video.frames or None
        if self.count is None and self._container.duration:
            self.count = round(self._container.duration / self._av.time_base * self.rate)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
        self._file.close()

    def frames(self, on_audio: Callable = lambda packet: None) -> Iterator[Frame]:
        """Yield the frames in order of their time. Can be called once.

        Args:
            on_audio: called with each packet of `audio`, in the order of the file.
        """
        for packet in self._waiting_audio:
            on_audio(packet)
        yield self._first
        self._first = None
        for item in self._items:
            if isinstance(item, Frame):
                yield item
            else:
                on_audio(item)

    def count_damage(self) -> None:
        """Count a part (packet) of the file that cannot be decoded and is skipped."""
        self._damaged += 1

    @property
    def problem(self) -> str | None:
        """What is wrong with the frames read so far, or None."""
        if not self._damaged:
            return None
        parts = "a damaged part was" if self._damaged == 1 else f"{self._damaged} damaged parts were"
        return f"{self.path}: {parts} skipped. Copy the file again."

    @property
    def start(self) -> Fraction:
        """Time stamp, in seconds, at which the video starts; recordings of broadcasts do not start at 0."""
        return Fraction(max(0, self._container.start_time or 0), self._av.time_base)

    def _decode(self, packets):
        """Yield `Frame`s and audio packets."""
        last = None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (self._av.FFmpegError, OSError):  # nothing after this point can be found
                self.count_damage()
                return
            if packet.stream is self.audio:
                if packet.dts is not None:  # the last packet is empty
                    yield packet
                continue
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                self.count_damage()
                continue
            for frame in frames:
                last = self._time(frame, last)
                yield Frame(last, frame, round((frame.rotation or 0) / 90) % 4)

    def _time(self, frame, last):
        if frame.pts is not None:
            return frame.pts * frame.time_base - self.start
        rate = self._video.average_rate or DEFAULT_RATE
        return Fraction(0) if last is None else last + 1 / rate


class RawReader:
    """Reads raw RGB frames, `-f rawvideo -pix_fmt rgb24` of ffmpeg, from a pipe.

    Args:
        file: the pipe, opened in binary mode.
        size: `(height, width)` of the frames.

    Attributes:
        size: as above.
        count: None; the number of frames is unknown.
        problem: a message if the data ended within a frame, else None.
    """

    count = None

    def __init__(self, file: BinaryIO, size: tuple[int, int]):
        self._file, self.size, self.problem = file, size, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def frames(self, on_audio: Callable = lambda packet: None) -> Iterator[Frame]:
        """Yield the complete frames. `on_audio` is not used; raw frames have no sound."""
        height, width = self.size
        number = 0
        while data := self._file.read(height * width * 3):
            if len(data) < height * width * 3:
                self.problem = (
                    f"standard input: frame {number + 1} has only {len(data):,} of {height * width * 3:,} bytes. "
                    f"Check --frames and that the pixel format is rgb24."
                )
                return
            yield Frame(Fraction(number), np.frombuffer(data, np.uint8).reshape(height, width, 3))
            number += 1


def import_av(path: str | os.PathLike):
    """Import PyAV.

    Raises:
        MissingExtraError: if PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{path}: videos need an extra: pip install "keras-recnet[video]". Or pipe raw frames with ffmpeg '
            f"(--frames)."
        ) from error
    return av
