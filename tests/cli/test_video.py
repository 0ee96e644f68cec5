import json
import os
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from keras_recnet.parallel import child_python

av = pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path):
    """A clip of 10 frames of 64×48 pixels."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            rgb = np.full((48, 64, 3), 60, np.uint8)
            rgb[10:40, number : number + 30] = (240, 150, 30)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames_of(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_a_clip_becomes_a_video_of_its_masks(run, clip, tmp_path):
    out = tmp_path / "new" / "mask.mp4"
    status, stdout, stderr = run(clip, "-o", out, "--json")
    assert status == 0
    result = json.loads(stdout)
    assert result.pop("seconds") > 0
    assert result == {
        "source": str(clip),
        "outputs": {"mask": str(out)},
        "skipped": False,
        "error": None,
        "size": [48, 64],
        "frames": 10,
    }
    assert "10 frames in " in stderr
    assert [(frame.width, frame.height) for frame in frames_of(out)] == [(64, 48)] * 10
    before = out.stat().st_mtime_ns
    status, stdout, _ = run(clip, "-o", out, "--json", "--skip-existing")
    assert (status, json.loads(stdout)["skipped"], out.stat().st_mtime_ns) == (0, True, before)
    assert run(clip, "-o", out, "--every", "4")[0] == 0
    assert len(frames_of(out)) == 3


def test_frames_of_a_clip_go_to_standard_output(clip, tiny_preset):
    options = ["--preset", str(tiny_preset), "--type", "heatmap"]
    done = subprocess.run(command("predict", clip, "-o", "-", *options), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 10 * 48 * 64 * 3


def test_raw_frames_go_through_a_pipe_without_pyav(tiny_preset):
    code = "import sys\nsys.modules['av'] = None\nfrom keras_recnet.cli import main\nsys.exit(main.main(sys.argv[1:]))"
    arguments = ["predict", "-", "-o", "-", "--frames", "64x48", "--preset", str(tiny_preset), "--type", "cutout"]
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8).tobytes()
    done = subprocess.run(**child_python(code, *arguments), input=frames, capture_output=True)
    assert (done.returncode, done.stderr, len(done.stdout)) == (0, b"", 3 * 48 * 64 * 4)
    done = subprocess.run(**child_python(code, *arguments), input=frames[:-1], capture_output=True)
    assert (done.returncode, len(done.stdout)) == (1, 2 * 48 * 64 * 4)
    assert b"frame 3 has only 9,215 of 9,216 bytes. Check --frames" in done.stderr


def test_a_closed_pipe_ends_the_run_with_a_message(tiny_preset, tmp_path):
    (tmp_path / "frames").write_bytes(bytes(200 * 48 * 64 * 3))  # masks that do not fit into the buffer of a pipe
    with open(tmp_path / "frames", "rb") as frames:
        process = subprocess.Popen(
            command("predict", "-", "-o", "-", "--frames", "64x48", "--preset", tiny_preset),
            stdin=frames,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b"Error: standard output: the program that reads the frames has ended.\n"
        assert process.wait(60) == 1
        process.stderr.close()


def test_ctrl_c_completes_the_file(clip, tiny_preset, tmp_path):
    # a frame takes 0.2 s, so that the signal arrives in the middle
    code = (
        "import sys, time\nfrom keras_recnet.cli import main\nfrom keras_recnet.video import writing\n"
        "write = writing.VideoWriter.write\n"
        "def slow(*arguments):\n    write(*arguments)\n    print('frame', flush=True)\n    time.sleep(0.2)\n"
        "writing.VideoWriter.write = slow\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    out = tmp_path / "mask.webm"
    process = subprocess.Popen(
        **child_python(code, "predict", str(clip), "-o", str(out), "--preset", str(tiny_preset)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        assert process.stdout.readline() == "frame\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"frames, which are in {out}." in stderr
    assert 2 <= len(frames_of(out)) < 10
    assert sorted(os.listdir(tmp_path)) == ["clip.mp4", "mask.webm"]


def test_a_broken_clip_is_reported(run, clip, tmp_path):
    clip.write_bytes(clip.read_bytes()[:-500])
    status, stdout, stderr = run(clip, "-o", tmp_path / "mask.webm", "--json")
    assert status == 1
    assert stderr == f"Error: {json.loads(stdout)['error']}\n"
    assert f"{clip}: not a video that can be read" in stderr
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_a_missing_pyav_names_the_extra(run, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, stderr = run(clip, "-o", tmp_path / "mask.webm")
    assert status == 2
    assert 'pip install "keras-recnet[video]"' in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "-o", "cut.mp4", "--type", "cutout"], ".mp4 has no transparency. Choose .webm or .mov"),
        (["clip.mp4", "-o", "maps"], "a video needs a file with one of the suffixes .webm, .mov, .mp4"),
        (["clip.mp4", "-o", "map.png"], "a video needs a file with one of the suffixes .webm, .mov, .mp4"),
        (["clip.mp4", "-o", "clip.mp4"], "this is the input itself"),
        (["clip.mp4", "a.jpg", "-o", "map.webm"], "cannot be combined with other inputs. Received: 2 inputs"),
        (["clip.mp4", "-o", "map.webm", "--type", "mask,cutout"], "Received: --type mask,cutout"),
        (["clip.mp4", "-o", "map.webm", "--type", "crop"], "one of mask, binary, cutout, overlay, heatmap. Received"),
        (["clip.mp4", "-o", "map.webm", "--frames", "64x48"], "--frames WxH and the input - must be used together"),
        (["-", "-o", "map.webm"], "--frames WxH and the input - must be used together"),
        (["-", "-o", "map.webm", "--frames", "64x48"], "Raw frames have no frame rate"),
        (["clip.mp4", "-o", "map.webm", "--shard", "0/2"], "--shard is for images"),
        (["a.jpg", "-o", "maps", "--every", "2"], "--every needs a video"),
        (["-", "-o", "-", "--frames", "64"], "must be WxH"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_starts_nothing(run, clip, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = run(*arguments)
    assert (status, stdout) == (2, "")
    assert message in stderr
    assert os.listdir(tmp_path) == ["clip.mp4"]


def command(*arguments):
    return [sys.executable, "-m", "keras_recnet", *map(str, arguments)]
