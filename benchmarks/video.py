"""Speed and memory of `keras-recnet predict` for a 720p video.

    python benchmarks/video.py

Makes clips of 10 and 50 seconds from examples/photos (30 frames per second, H.264 with AAC audio, in which the camera
moves over a photo), and converts them in new processes. Prints frames per second and CPU time per frame (start of the
process included), and the peak memory. The exit status is 1 if the long clip needs over 10 % more memory than the short
one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
WIDTH, HEIGHT, RATE = 1280, 720, 30


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", nargs="*", default=["mask.mp4", "overlay.mp4", "cutout.webm", "cutout.mov"])
    parser.add_argument("--long", default="cutout.webm", help="output whose memory is compared for 10 and 50 seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder, peaks = Path(folder), {}
        short, long = make_clip(folder / "10s.mp4", 10), make_clip(folder / "50s.mp4", 50)
        print("| clip | output | frames/s | CPU time per frame | peak memory |")
        print("| --- | --- | ---: | ---: | ---: |")
        for clip, out in (*((short, out) for out in arguments.outputs), (long, arguments.long)):
            peaks[clip.stem, out] = convert(clip, folder / out)
    ratio = peaks["50s", arguments.long] / peaks["10s", arguments.long]
    print(f"memory of {arguments.long}, 50 s / 10 s: {ratio:.2f} (limit 1.10)")
    return 0 if ratio < 1.1 else 1


def convert(clip, out):
    command = [sys.executable, "-m", "keras_recnet", "predict", clip, "-o", out, "--type", out.stem]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed")
    frames = int(clip.stem[:-1]) * RATE
    with av.open(str(out)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == frames
    cpu = (usage.ru_utime + usage.ru_stime) / frames * 1000
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"| {clip.stem} | {out.name} | {frames / seconds:.1f} | {cpu:.0f} ms | {peak:.0f} MB |", flush=True)
    return peak


def make_clip(path, seconds):
    photos = [
        np.asarray(Image.open(PHOTOS / name).convert("RGB").resize((1600, 1000)))
        for name in ("coffee.jpg", "flower.jpg")
    ]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=48000)
        audio.layout = "mono"
        for number in range(seconds * RATE):
            photo = photos[number // (2 * RATE) % 2]
            left, top = round(160 + 150 * np.sin(number / 20)), round(140 + 130 * np.cos(number / 27))
            rgb = np.ascontiguousarray(photo[top : top + HEIGHT, left : left + WIDTH])
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
            wave = np.sin(np.arange(number * 1600, (number + 1) * 1600) / 48000 * 2 * np.pi * 440) / 4
            sound = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, number * 1600, Fraction(1, 48000)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


if __name__ == "__main__":
    sys.exit(main())
