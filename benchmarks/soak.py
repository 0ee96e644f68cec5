"""Thousands of requests, garbage among them, to a merging server: right answers, and memory that does not grow.

    make soak
    python benchmarks/soak.py --requests 2000 --model models/recnet_lite0

The server is the stand-in of the tests: TF Serving's protocols and its merging over the real SavedModel, run in a
session as TF Serving runs it. It listens at the loopback address alone. Threads send it small photographs of mixed
sizes, half by the REST client and half by the gRPC client, and garbage in one request of ten.

It holds when

- every good picture gets the map that the SavedModel gives for it alone, within 2/255 on average, every bad one its
  status, and nothing else fails;
- those maps are the ones of `keras_recnet.saliency`, within 2/255 as the mean of all pictures: the two round
  differently when they resize;
- the memory that the server holds at the end is within 5 % of what it held after the first 1,000 requests: its own
  memory, without the pages of files that are resident beside it, and without what is freed but not given back yet.

Exit status: 0 it holds, 1 it does not.
"""

import argparse
import collections
import contextlib
import io
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

ROOT = Path(__file__).parents[1]
STAND_IN = ROOT / "tests" / "export" / "serving" / "stand_in_server"
BATCHING = ROOT / "export" / "serving" / "batching.config"
NAME = "recnet_lite0"

LONG_SIDES = (96, 160, 224, 320)
TOLERANCE = 2 / 255
WARM, GROWTH = 1000, 0.05
UNDECODABLE, TOO_LARGE = 1, 2


def good_pictures():
    """(name, bytes): every photograph in several sizes, as JPEG and PNG, some turned by EXIF."""
    for number, path in enumerate(sorted((ROOT / "examples" / "photos").glob("*.jpg"))):
        for place, side in enumerate(LONG_SIDES):
            with Image.open(path) as image:
                image.thumbnail((side, side))
                file, exif = io.BytesIO(), Image.Exif()
                if (number + place) % 3 == 0:
                    exif[ExifTags.Base.Orientation] = 2 + number
                kind = "PNG" if place % 2 else "JPEG"
                image.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}), exif=exif)
                yield f"{path.stem} {image.width}×{image.height} {kind}", file.getvalue()


def bad_pictures(good):
    """(name, bytes, status)."""
    random = np.random.default_rng(0)
    jpeg = next(data for name, data in good if name.endswith("JPEG"))
    png = next(data for name, data in good if name.endswith("PNG"))
    huge = bytearray(png)
    huge[16:24] = (30_000).to_bytes(4, "big") * 2
    flat = bytearray(png)
    flat[16:20] = bytes(4)
    return [
        ("no bytes", b"", UNDECODABLE),
        ("a text", b"<html><body>404 Not Found</body></html>", UNDECODABLE),
        ("random bytes", random.bytes(5000), UNDECODABLE),
        ("JPEG's first bytes, then random ones", jpeg[:4] + random.bytes(5000), UNDECODABLE),
        ("a JPEG cut off", jpeg[: len(jpeg) // 2], UNDECODABLE),
        ("a PNG cut off", png[: len(png) // 2], UNDECODABLE),
        ("PNG's signature alone", png[:8], UNDECODABLE),
        ("a PNG 0 pixels wide", bytes(flat), UNDECODABLE),
        ("a PNG that promises 30,000 × 30,000 pixels", bytes(huge), TOO_LARGE),
    ]


def maps_of(folder, pictures):
    """The maps of a SavedModel's newest version, one picture at a time and without a server."""
    import tensorflow as tf

    from keras_recnet.export.serving.pictures import to_map, to_send

    newest = max((path for path in Path(folder).iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    encoded = tf.saved_model.load(str(newest)).signatures["encoded"]
    files = [tf.constant([to_send(data)]) for _, data in pictures]
    return [to_map(encoded(image_bytes=file)["saliency_bytes"].numpy()[0]) for file in files]


class Soak:
    """What is sent, and whether the answer is right."""

    def __init__(self, clients, good, expected, bad, garbage, seed):
        self.clients, self.good, self.expected, self.bad = clients, good, expected, bad
        self.garbage, self.seed = garbage, seed
        self.worst = 0.0

    def __call__(self, number):
        """(kind, what is wrong or None, seconds) of one request."""
        random = np.random.default_rng((self.seed, number))
        label, client = self.clients[number % len(self.clients)]
        start = time.perf_counter()
        try:
            if random.random() < self.garbage:
                kind, wrong = "garbage", self._send_garbage(client, random)
            else:
                kind, wrong = "good", self._send_good(client, random)
        except Exception as error:  # whatever it is, it is what this is looking for
            kind, wrong = "failed", f"{type(error).__name__}: {error}"
        return f"{label}, {kind}", wrong, time.perf_counter() - start

    def _send_good(self, client, random):
        place = int(random.integers(len(self.good)))
        name, data = self.good[place]
        saliency_map, expected = client(data), self.expected[place]
        if saliency_map.shape != expected.shape:
            return f"{name}: a map of {saliency_map.shape} for a picture of {expected.shape}"
        difference = float(np.abs(saliency_map - expected).mean())
        self.worst = max(self.worst, difference)
        return f"{name}: differs by {difference * 255:.2f}/255" if difference > TOLERANCE else None

    def _send_garbage(self, client, random):
        # `send` passes on what a call would refuse before it reaches the server
        name, data, status = self.bad[int(random.integers(len(self.bad)))]
        (answer,) = client.send([data])
        return None if answer == (status, b"") else f"{name}: answered with status {answer.status}"


def soak(options, folder, log):
    """Runs it, prints the table, and gives what does not hold."""
    from keras_recnet import Predictor
    from keras_recnet.export.serving.grpc_client import GrpcClient
    from keras_recnet.export.serving.rest_client import RestClient
    from keras_recnet.parallel import ordered

    good = list(good_pictures())
    expected = maps_of(folder, good)
    predicted = Predictor(NAME).map(data for _, data in good)
    apart = [float(np.abs(a - b).mean()) for a, b in zip(expected, predicted, strict=True)]
    bad = bad_pictures(good)
    start_server = runpy.run_path(str(STAND_IN / "starting.py"))["start"]
    kinds, seconds, wrong, memory = collections.Counter(), [], [], {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start_server(batching=BATCHING, log=log, **{NAME: folder}))
        clients = [("REST", RestClient(NAME, server.url)), ("gRPC", GrpcClient(NAME, server.target))]
        for _, client in clients:
            stack.enter_context(client).wait_until_ready()
        work = Soak(clients, good, expected, bad, options.garbage, options.seed)
        begin = time.monotonic()
        results = stack.enter_context(
            contextlib.closing(ordered(work, range(options.requests), workers=options.threads))
        )
        for done, (kind, problem, took) in enumerate(results, start=1):
            kinds[kind] += 1
            seconds.append(took)
            if problem:
                wrong.append(f"request {done - 1} ({kind}): {problem}")
            if done in (1, options.requests) or done % 500 == 0:
                held = server.memory() if server.runs() else {"own": 0, "resident": 0}
                memory[done] = held["own"]
                print(
                    f"{done:>6} requests {time.monotonic() - begin:>6.0f} s {held['own'] / 2**20:>6.0f} MiB, resident "
                    f"{held['resident'] / 2**20:.0f} MiB",
                    flush=True,
                )
            if not server.runs() or len(wrong) > 20:
                break
            if time.monotonic() - begin > options.minutes * 60:
                wrong.append(f"stopped after {options.minutes:g} minutes and {done:,} requests (--minutes)")
                break
        batches = {}
        if server.runs():
            batches = server.batches()[NAME]
        else:
            wrong.append("the server's process ended")
    return _judge(options, kinds, seconds, wrong, memory, batches, work.worst, float(np.mean(apart)))


def _judge(options, kinds, seconds, wrong, memory, batches, worst, apart):
    p50, p90, p99 = np.percentile(seconds, (50, 90, 99)) * 1000
    merged = sum(size * count for size, count in batches.items() if size > 1)
    print()
    for kind, count in sorted(kinds.items()):
        print(f"{kind:<28}{count:>10,}")
    print(f"{'wrong or failed':<28}{len(wrong):>10,}")
    print(f"{'largest difference':<28}{worst * 255:>10.2f} /255 on average over a map, at most {TOLERANCE * 255:.0f}")
    print(f"{'from keras_recnet.saliency':<28}{apart * 255:>10.2f} /255 on average, at most {TOLERANCE * 255:.0f}")
    if apart > TOLERANCE:
        wrong.append(f"the SavedModel's maps differ from keras_recnet.saliency's by {apart * 255:.2f}/255")
    print(f"{'p50, p90, p99':<28}{p50:>10.0f} {p90:.0f} {p99:.0f} ms, {options.threads} requests at a time")
    print(f"{'merged with others':<28}{merged:>10,} requests, up to {max(batches, default=0)} in a batch")
    if not merged:
        wrong.append("no requests were merged: the server had too few at once (--threads)")
    if WARM in memory and len(seconds) > WARM:
        change = memory[max(memory)] / memory[WARM] - 1
        print(f"{'memory after ' + format(WARM, ','):<28}{memory[WARM] / 2**20:>10.0f} MiB")
        print(
            f"{'memory at the end':<28}{memory[max(memory)] / 2**20:>10.0f} MiB, {change:+.1%}, at most ±{GROWTH:.0%}"
        )
        if abs(change) > GROWTH:
            wrong.append(f"memory changed by {change:+.1%} after the first {WARM:,} requests")
    else:
        print(f"{'memory':<28}not judged: it needs more than {WARM:,} requests")
    for line in wrong[:20]:
        print(f"  {line}")
    print("It does not hold." if wrong else "It holds.")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--garbage", type=float, default=0.1, help="share of the requests")
    parser.add_argument("--threads", type=int, default=8, help="requests at a time")
    parser.add_argument("--minutes", type=float, default=60.0, help="stops after that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model", help=f"a folder with versions of {NAME}'s SavedModel; by default it is exported anew"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open(os.devnull, "w") as nowhere:
        folder = options.model
        if folder is None:
            from keras_recnet.export import export_model

            folder = Path(temporary) / NAME
            export_model(NAME, folder, format="savedmodel", signatures=["encoded"], say=print)
        # TensorFlow writes a line for every broken JPEG.
        return bool(soak(options, folder, nowhere))


if __name__ == "__main__":
    sys.exit(main())
