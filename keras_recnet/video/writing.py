"""Write the frames of a video file, or raw frames to a pipe."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_recnet.parallel import cores
from keras_recnet.video.reading import VideoReader, import_av

# Codec, pixel formats without and with transparency, and options of each format.
_CODECS = {
    ".webm": (
        "libvpx-vp9",
        ("yuv420p", "yuva420p"),
        # constant quality; no `auto-alt-ref`: these hidden frames cannot have an alpha channel
        {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1", "auto-alt-ref": "0"},
    ),
    ".mov": ("prores_ks", ("yuv422p10le", "yuva444p10le"), {"vendor": "apl0"}),
    # no B-frames, because the MP4 muxer computes the wrong duration for their last frames if the frame rate varies
    ".mp4": ("libx264", ("yuv420p", None), {"crf": "20", "preset": "veryfast", "bf": "0"}),
}
_AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_AUDIO_CODECS = {".webm": "libopus", ".mov": "aac", ".mp4": "aac"}
_COPIED_AUDIO = {
    ".webm": {"opus", "vorbis"},
    ".mov": {"aac", "alac", "mp3", "ac3", "pcm_s16le", "pcm_s24le"},
    ".mp4": {"aac", "alac", "mp3", "ac3"},
}
_MODES = {2: "gray", 3: "rgb24", 4: "rgba"}
_BT709, _LIMITED = 1, 1  # colorspace, primaries and transfer of HD video; and the range 16…235


class VideoWriter:
    """Writes a video: VP9 (`.webm`), ProRes (`.mov`) or H.264 (`.mp4`). A context manager; call `finish` at its end.

    Time stamps are kept, so a variable frame rate stays as it is. The audio is copied if the format allows its codec,
    otherwise it is encoded again, in Opus or AAC.

    Args:
        file: binary file to write to.
        path: the output file, for its suffix and for messages.
        source: the video whose frame size, frame rate and audio are used.
        transparent: whether the frames have an alpha channel.
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike, source: VideoReader, *, transparent: bool):
        self._av, self._source = import_av(path), source
        suffix = Path(path).suffix.lower()
        codec, formats, options = _CODECS[suffix]
        self._format = formats[transparent]
        self._container = self._av.open(file, "w", format=suffix[1:])
        height, width = source.size
        if suffix == ".mp4":  # H.264 with 4:2:0 colors has no odd sizes
            height, width = max(2, height // 2 * 2), max(2, width // 2 * 2)
        self._size = (height, width)
        self._video = self._container.add_stream(codec, rate=source.rate, options=dict(options))
        context = self._video.codec_context
        context.height, context.width, context.pix_fmt = height, width, self._format
        # WebM stores milliseconds
        context.time_base = Fraction(1, 1000) if suffix == ".webm" else source.time_base
        context.thread_count = cores()
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if suffix == ".mov":
            context.profile = "4444" if transparent else "HQ"
        self._time_base, self._last = context.time_base, None
        self._audio, self._copies = None, False
        if source.audio is not None:
            self._copies = source.audio.codec_context.name in _COPIED_AUDIO[suffix]
            if self._copies:
                self._audio = self._container.add_stream_from_template(source.audio)
            else:
                rate = source.audio.rate
                if suffix == ".webm" or rate not in _AAC_RATES:
                    rate = 48000
                self._audio = self._container.add_stream(_AUDIO_CODECS[suffix], rate=rate)
                self._audio.codec_context.layout = "mono" if source.audio.channels == 1 else "stereo"
                self._audio.codec_context.bit_rate = 128_000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):  # after an error, it cannot be completed; after `finish`, it is closed
            self._container.close()

    def convert(self, pixels: np.ndarray):
        """Convert pixels to the format of the codec. Several threads may call it.

        Args:
            pixels: uint8 `(H, W)`, `(H, W, 3)` or, if the video is transparent, `(H, W, 4)`.
        """
        height, width = self._size
        if pixels.shape[:2] != self._size:
            # a missing last row or column is repeated
            pixels = np.pad(
                pixels[:height, :width],
                [(0, max(0, height - pixels.shape[0])), (0, max(0, width - pixels.shape[1])), (0, 0)][: pixels.ndim],
                mode="edge",
            )
        mode = "gray" if pixels.ndim == 2 else _MODES[pixels.shape[2]]
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=mode)
        frame = frame.reformat(format=self._format, dst_colorspace="ITU709")
        frame.colorspace, frame.color_range = _BT709, _LIMITED
        return frame

    def write(self, frame, time: Fraction) -> None:
        """Write a frame that `convert` returned, to be shown `time` seconds after the start."""
        stamp = round(time / self._time_base)
        if self._last is not None:
            stamp = max(stamp, self._last + 1)  # encoders refuse frames without an order
        frame.pts, frame.time_base, self._last = stamp, self._time_base, stamp
        self._container.mux(self._video.encode(frame))

    def write_audio(self, packet) -> None:
        """Write a packet of the source's audio stream."""
        shift = round(self._source.start / packet.time_base)
        if self._copies:
            packet.pts = packet.pts - shift if packet.pts is not None else None
            packet.dts -= shift
            packet.stream = self._audio
            self._container.mux(packet)
            return
        try:
            frames = packet.decode()
        except self._av.FFmpegError:
            self._source.count_damage()
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._source.start / frame.time_base)
            self._container.mux(self._audio.encode(frame))

    def finish(self) -> None:
        """Write the frames that the encoders still hold, and the end of the file."""
        self._container.mux(self._video.encode(None))
        if self._audio is not None and not self._copies:
            self._container.mux(self._audio.encode(None))
        self._container.close()


class RawWriter:
    """Writes raw frames to a pipe: gray, rgb24 or, for transparent cutouts, rgba in terms of ffmpeg.

    Args:
        file: the pipe, opened in binary mode.
    """

    def __init__(self, file: BinaryIO):
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def convert(self, pixels: np.ndarray) -> bytes:
        """Return the bytes of a frame, uint8 `(H, W)`, `(H, W, 3)` or `(H, W, 4)`."""
        return pixels.tobytes()

    def write(self, frame: bytes, time: Fraction) -> None:
        """Write a frame."""
        self._file.write(frame)

    def write_audio(self, packet) -> None:
        """Drop the packet."""

    def finish(self) -> None:
        """Flush the pipe."""
        self._file.flush()
