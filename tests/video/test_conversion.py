import errno
import io
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from keras_recnet.errors import DiskError, ImageError, MissingExtraError
from keras_recnet.inference.outputs import OutputWriter
from keras_recnet.video import conversion
from keras_recnet.video.conversion import convert_video
from keras_recnet.video.reading import RawReader, VideoReader

av = pytest.importorskip("av")

MILLISECOND = Fraction(1, 1000)
HEIGHT, WIDTH = 48, 64


class RedIsSalient:
    """A predictor whose map is the red channel."""

    engine = SimpleNamespace(size=(HEIGHT, WIDTH))

    def predict(self, decoded, parallel=False):
        return decoded.rgb[..., 0].astype(np.float32) / 255


def scene(place, size=(HEIGHT, WIDTH)):
    """A red square on green."""
    rgb = np.full((*size, 3), (0, 200, 0), np.uint8)
    rgb[8:32, place : place + 24] = (255, 0, 0)
    return rgb


def make_clip(
    path,
    *,
    times=range(0, 320, 40),
    size=(HEIGHT, WIDTH),
    rotation=0,
    audio=None,
    codec="libx264",
    pix_fmt="yuv444p",
    start=0,
    pixels=(1, 1),
    sample_rate=48000,
):
    """Write a clip of a red square that moves to the right, by 2 pixels per frame; times in milliseconds."""
    options = {"crf": "1"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = MILLISECOND, Fraction(*pixels)
        context.colorspace = context.color_primaries = context.color_trc = 1
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream(audio, rate=sample_rate) if audio else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(4 + 2 * number, size), format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace="ITU709")
            frame.pts, frame.time_base = time + start, MILLISECOND
            container.mux(stream.encode(frame))
        if sound:
            wave = np.sin(np.arange(15360) / 48000 * 2 * np.pi * 440).astype(np.float32)[None] / 2
            frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2, axis=0), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, start * 48, Fraction(1, sample_rate)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    return path


def convert(path, out, kind="mask", drawing=None, **options):
    with VideoReader(path) as reader:
        return convert_video(reader, out, RedIsSalient(), kind, drawing or OutputWriter(), **options)


def frames_of(path, format="rgb24"):
    """Return the frames of a video with their times in milliseconds, read with libvpx, which decodes alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if decoder.name == "vp9":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        frames = [
            frame for packet in container.demux(stream) for frame in decoder.decode(packet if packet.size else None)
        ]
        return [frame.to_ndarray(format=format) for frame in frames], [
            round(frame.pts * stream.time_base * 1000) for frame in frames
        ]


def sound_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        first = frames[0].pts * stream.time_base
        samples = np.concatenate([frame.to_ndarray().reshape(-1, frame.samples)[0] for frame in frames])
        return stream.codec_context.name, first, samples


@pytest.mark.parametrize("suffix", [".webm", ".mov", ".mp4"])
def test_a_mask_follows_the_object(tmp_path, suffix):
    clip = make_clip(tmp_path / "clip.mkv")
    assert convert(clip, tmp_path / f"mask{suffix}") == 8
    masks, times = frames_of(tmp_path / f"mask{suffix}", "gray")
    assert times == list(range(0, 320, 40))
    for number, mask in enumerate(masks):
        assert mask.shape == (HEIGHT, WIDTH)
        expected = scene(4 + 2 * number)[..., 0]
        assert np.abs(mask.astype(int) - expected).mean() < 6
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["clip.mkv", f"mask{suffix}"]


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_a_cutout_is_transparent_around_the_object(tmp_path, suffix):
    clip = make_clip(tmp_path / "clip.mkv")
    convert(clip, tmp_path / f"cut{suffix}", "cutout")
    cutouts, _ = frames_of(tmp_path / f"cut{suffix}", "rgba")
    assert len(cutouts) == 8
    for number, rgba in enumerate(cutouts):
        place = 4 + 2 * number
        assert rgba[12:28, place + 4 : place + 20, 3].min() > 240
        np.testing.assert_allclose(rgba[20, place + 12, :3], (255, 0, 0), atol=12)
        assert rgba[40:, :, 3].max() < 15


def test_a_cutout_on_a_color_is_opaque(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv")
    convert(clip, tmp_path / "cut.mp4", "cutout", OutputWriter(background=(0, 0, 255)))
    frames, _ = frames_of(tmp_path / "cut.mp4")
    np.testing.assert_allclose(frames[0][20, 16], (255, 0, 0), atol=12)
    np.testing.assert_allclose(frames[0][44, 40], (0, 0, 255), atol=12)


def test_an_overlay_keeps_the_colors_of_hd_video(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv")
    convert(clip, tmp_path / "over.mp4", "overlay")
    frames, _ = frames_of(tmp_path / "over.mp4")
    # half of the photo and half of the heatmap, which is black where the map is 0
    np.testing.assert_allclose(frames[0][44, 40], (0, 100, 0), atol=6)


@pytest.mark.parametrize("suffix", [".webm", ".mov", ".mp4"])
def test_a_variable_frame_rate_is_kept(tmp_path, suffix):
    times = [0, 40, 50, 200, 210, 700]
    clip = make_clip(tmp_path / "clip.mkv", times=times)
    convert(clip, tmp_path / f"mask{suffix}")
    assert frames_of(tmp_path / f"mask{suffix}")[1] == times
    with av.open(str(tmp_path / f"mask{suffix}")) as container:
        assert container.duration / av.time_base == pytest.approx(0.74, abs=0.02)


def test_every_third_frame_keeps_its_time(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv")
    assert convert(clip, tmp_path / "mask.webm", every=3) == 3
    assert frames_of(tmp_path / "mask.webm")[1] == [0, 120, 240]


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_the_rotation_of_a_phone_clip_is_applied(tmp_path, rotation, turns):
    clip = make_clip(tmp_path / "clip.mp4", rotation=rotation)
    convert(clip, tmp_path / "mask.webm")
    masks, _ = frames_of(tmp_path / "mask.webm", "gray")
    expected = np.rot90(scene(4)[..., 0], turns)
    assert masks[0].shape == expected.shape
    assert np.abs(masks[0].astype(int) - expected).mean() < 6
    with av.open(str(tmp_path / "mask.webm")) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize(
    ("pixels", "rotation", "shape"),
    [((2, 1), 0, (48, 128)), ((1, 2), 0, (96, 64)), ((2, 1), 90, (128, 48))],
)
def test_pixels_that_are_not_square_are_stretched(tmp_path, pixels, rotation, shape):
    clip = make_clip(tmp_path / "clip.mp4", pixels=pixels, rotation=rotation)
    convert(clip, tmp_path / "mask.webm")
    mask = frames_of(tmp_path / "mask.webm", "gray")[0][0]
    expected = np.rot90(scene(4)[..., 0], rotation // 90)
    for axis in (0, 1):
        expected = expected.repeat(shape[axis] // expected.shape[axis], axis)
    assert mask.shape == shape
    assert np.abs(mask.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(("suffix", "size"), [(".webm", (47, 63)), (".mov", (47, 63)), (".mp4", (46, 62))])
def test_odd_sizes_are_kept_except_in_mp4(tmp_path, suffix, size):
    clip = make_clip(tmp_path / "clip.mkv", size=(47, 63))
    convert(clip, tmp_path / f"mask{suffix}")
    masks, _ = frames_of(tmp_path / f"mask{suffix}", "gray")
    assert masks[0].shape == size
    assert np.abs(masks[0].astype(int) - scene(4, (47, 63))[: size[0], : size[1], 0]).mean() < 6


@pytest.mark.parametrize(
    ("codec", "suffix", "expected"),
    [("aac", ".mp4", "aac"), ("aac", ".mov", "aac"), ("libopus", ".webm", "opus"), ("aac", ".webm", "opus")],
)
def test_the_audio_is_kept(tmp_path, codec, suffix, expected):
    clip = make_clip(tmp_path / "clip.mkv", audio=codec)
    convert(clip, tmp_path / f"mask{suffix}")
    _, first, before = sound_of(clip)
    name, start, after = sound_of(tmp_path / f"mask{suffix}")
    assert name == expected
    assert float(start) == pytest.approx(float(first), abs=0.03)
    assert len(after) == pytest.approx(len(before), abs=2100)
    spectrum = np.abs(np.fft.rfft(after[4000:10000]))
    assert spectrum.argmax() * 48000 / 6000 == pytest.approx(440, abs=8)


def test_a_recording_that_starts_later_starts_at_0(tmp_path):
    clip = make_clip(tmp_path / "clip.ts", start=5000, audio="aac", pix_fmt="yuv420p")
    convert(clip, tmp_path / "mask.mp4")
    _, times = frames_of(tmp_path / "mask.mp4")
    assert 0 <= times[0] < 100
    np.testing.assert_allclose(np.diff(times), 40, atol=1)
    assert 0 <= sound_of(tmp_path / "mask.mp4")[1] < 0.1


def test_a_stopped_conversion_leaves_a_playable_file(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv", audio="libopus")
    done = []
    assert convert(clip, tmp_path / "mask.webm", advance=done.append, stop=lambda: len(done) == 3) == 3
    assert frames_of(tmp_path / "mask.webm")[1] == [0, 40, 80]


def test_a_damaged_part_is_skipped_and_counted(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", times=range(0, 800, 40))
    with av.open(str(clip)) as container:
        packet = bytes([*container.demux(video=0)][5])
    clip.write_bytes(clip.read_bytes().replace(packet, bytes(len(packet))))
    with VideoReader(clip) as reader:
        assert convert_video(reader, tmp_path / "mask.webm", RedIsSalient(), "mask", OutputWriter()) == 19
        assert reader.problem == f"{clip}: a damaged part was skipped. Copy the file again."
    assert len(frames_of(tmp_path / "mask.webm")[0]) == 19


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "not a video"), (b"text " * 1000, "not a video"), (None, "No such file")]
)
def test_a_file_that_is_not_a_video_is_named(tmp_path, data, message):
    clip = tmp_path / "clip.mp4"
    if data is not None:
        clip.write_bytes(data)
    with pytest.raises(ImageError, match=message) as error:
        VideoReader(clip)
    assert str(error.value).startswith(f"{clip}: ")


def test_a_truncated_clip_and_one_without_video_are_named(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[:-400])
    with pytest.raises(ImageError, match=r"clip.mp4: not a video that can be read"):
        VideoReader(clip)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match=r"sound.mp4: the file has no video stream"):
        VideoReader(tmp_path / "sound.mp4")


def test_frames_that_are_too_large_are_refused(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv")
    with pytest.raises(ImageError, match=r"64 × 48 pixels are more than the limit of 3,000.*--max-pixels 3072"):
        VideoReader(clip, max_pixels=3000)


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    clip, out = make_clip(tmp_path / "clip.mkv"), tmp_path / "mask.webm"
    out.write_bytes(b"earlier")

    class FullDisk(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 600:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(conversion, "open", lambda path, mode: FullDisk(path, mode), raising=False)
    with pytest.raises(DiskError, match=r"mask.webm: the disk is full"):
        convert(clip, out)
    assert out.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "mask.webm"]


def test_frames_are_not_read_far_ahead(tmp_path, monkeypatch):
    class Pipe:
        reads = 0

        def read(self, size):
            self.reads += 1
            return bytes(size) if self.reads <= 200 else b""

    pipe, ahead = Pipe(), []
    monkeypatch.setattr(conversion, "sys", SimpleNamespace(stdout=SimpleNamespace(buffer=io.BytesIO())))
    reader = RawReader(pipe, (HEIGHT, WIDTH))
    count = convert_video(
        reader,
        "-",
        RedIsSalient(),
        "mask",
        OutputWriter(),
        workers=2,
        advance=lambda frames: ahead.append(pipe.reads - len(ahead)),
    )
    assert count == 200
    assert max(ahead) <= 12


def test_raw_frames_become_raw_masks_and_cutouts(monkeypatch):
    frames = np.stack([scene(4), scene(20)])
    for kind, shape in (("mask", (HEIGHT, WIDTH)), ("overlay", (HEIGHT, WIDTH, 3)), ("cutout", (HEIGHT, WIDTH, 4))):
        out = io.BytesIO()
        monkeypatch.setattr(conversion, "sys", SimpleNamespace(stdout=SimpleNamespace(buffer=out)))
        reader = RawReader(io.BytesIO(frames.tobytes() + bytes(100)), (HEIGHT, WIDTH))
        assert convert_video(reader, "-", RedIsSalient(), kind, OutputWriter()) == 2
        assert "frame 3 has only 100 of 9,216 bytes" in reader.problem
        drawn = np.frombuffer(out.getvalue(), np.uint8).reshape(2, *shape)
        if kind == "mask":
            np.testing.assert_array_equal(drawn, frames[..., 0])
        if kind == "cutout":
            assert (drawn[0, 12:28, 8:24] == (255, 0, 0, 255)).all()


def test_a_missing_pyav_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r'clip.mp4: videos need an extra: pip install "keras-recnet\[video\]"'):
        VideoReader(tmp_path / "clip.mp4")


def test_audio_with_a_rate_that_aac_lacks_is_resampled(tmp_path):
    clip = make_clip(tmp_path / "clip.mkv", audio="pcm_s16le", sample_rate=192_000)
    convert(clip, tmp_path / "mask.mp4")
    with av.open(str(tmp_path / "mask.mp4")) as container:
        assert container.streams.audio[0].rate == 48000
