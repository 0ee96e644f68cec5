"""Soak test: thousands of requests, bad files included, to a server with batching. Checks answers and memory.

    make soak
    python benchmarks/soak.py --requests 2000 --model models/recnet_lite0

The server is the fake TF Serving of the tests: the protocols and batching of TF Serving over the real SavedModel, run
in a session as in TF Serving. It only listens on the loopback address. Threads send small photographs of mixed
sizes, half with the REST client and half with the gRPC client, and a bad file in one request of ten.

The test passes if

- every good image has the map that the SavedModel computes for it alone, within 2/255 on average, every bad file has
  its status, and nothing else fails;
- these maps equal those of `keras_recnet.saliency` within 2/255 on average over all images: the two round differently
  in resizing;
- the server's memory at the end is within 5 % of its memory after the first 1,000 requests: private memory, without
  resident pages of files and without freed memory that is not returned yet.

Exit status: 0 passed, 1 failed.
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
FAKE_SERVER = ROOT / "tests" / "export" / "serving" / "fake_server"
BATCHING = ROOT / "export" / "serving" / "batching.config"
NAME = "recnet_lite0"

LONG_SIDES = (96, 160, 224, 320)
TOLERANCE = 2 / 255
WARM, GROWTH = 1000, 0.05
UNDECODABLE, TOO_LARGE = 1, 2


def good_images():
    """Yield (name, bytes) of the photographs in several sizes, as JPEG and PNG, some with an EXIF rotation."""
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


def bad_files(good):
    """Return (name, bytes, status) of files that have no map."""
    random = np.random.default_rng(0)
    jpeg = next(data for name, data in good if name.endswith("JPEG"))
    png = next(data for name, data in good if name.endswith("PNG"))
    huge = bytearray(png)
    huge[16:24] = (30_000).to_bytes(4, "big") * 2
    flat = bytearray(png)
    flat[16:20] = bytes(4)
    return [
        ("no bytes", b"", UNDECODABLE),
        ("text", b"<html><body>404 Not Found</body></html>", UNDECODABLE),
        ("random bytes", random.bytes(5000), UNDECODABLE),
        ("a JPEG header, then random bytes", jpeg[:4] + random.bytes(5000), UNDECODABLE),
        ("a truncated JPEG", jpeg[: len(jpeg) // 2], UNDECODABLE),
        ("a truncated PNG", png[: len(png) // 2], UNDECODABLE),
        ("only the signature of a PNG", png[:8], UNDECODABLE),
        ("a PNG 0 pixels wide", bytes(flat), UNDECODABLE),
        ("a PNG with 30,000 × 30,000 pixels in its header", bytes(huge), TOO_LARGE),
    ]


def maps_of(folder, images):
    """Compute maps with the newest version of a SavedModel, one image at a time and without a server."""
    import tensorflow as tf

    from keras_recnet.export.serving.codec import decode_map, encode_image

    newest = max((path for path in Path(folder).iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    encoded = tf.saved_model.load(str(newest)).signatures["encoded"]
    files = [tf.constant([encode_image(data)]) for _, data in images]
    return [decode_map(encoded(image_bytes=file)["saliency_bytes"].numpy()[0]) for file in files]


class Soak:
    """Sends the requests and checks the answers."""

    def __init__(self, clients, good, expected, bad, bad_share, seed):
        self.clients, self.good, self.expected, self.bad = clients, good, expected, bad
        self.bad_share, self.seed = bad_share, seed
        self.worst = 0.0

    def __call__(self, number):
        """Send one request and return (kind, problem or None, seconds)."""
        random = np.random.default_rng((self.seed, number))
        label, client = self.clients[number % len(self.clients)]
        start = time.perf_counter()
        try:
            if random.random() < self.bad_share:
                kind, problem = "bad file", self._send_bad(client, random)
            else:
                kind, problem = "good", self._send_good(client, random)
        except Exception as error:
            kind, problem = "failed", f"{type(error).__name__}: {error}"
        return f"{label}, {kind}", problem, time.perf_counter() - start

    def _send_good(self, client, random):
        place = int(random.integers(len(self.good)))
        name, data = self.good[place]
        saliency_map, expected = client(data), self.expected[place]
        if saliency_map.shape != expected.shape:
            return f"{name}: a map of {saliency_map.shape} for an image of {expected.shape}"
        difference = float(np.abs(saliency_map - expected).mean())
        self.worst = max(self.worst, difference)
        return f"{name}: differs by {difference * 255:.2f}/255" if difference > TOLERANCE else None

    def _send_bad(self, client, random):
        # `client(data)` would refuse some files before sending them
        name, data, status = self.bad[int(random.integers(len(self.bad)))]
        (answer,) = client.send([data])
        return None if answer == (status, b"") else f"{name}: answered with status {answer.status}"


def soak(options, folder, log):
    """Run the test, print a table and return the problems."""
    from keras_recnet import Predictor
    from keras_recnet.export.serving.grpc_client import GrpcClient
    from keras_recnet.export.serving.rest_client import RestClient
    from keras_recnet.parallel import ordered_map

    good = list(good_images())
    expected = maps_of(folder, good)
    predicted = Predictor(NAME).map(data for _, data in good)
    differences = [float(np.abs(a - b).mean()) for a, b in zip(expected, predicted, strict=True)]
    bad = bad_files(good)
    start_server = runpy.run_path(str(FAKE_SERVER / "starting.py"))["start"]
    kinds, seconds, problems, memory = collections.Counter(), [], [], {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start_server(batching=BATCHING, log=log, **{NAME: folder}))
        clients = [("REST", RestClient(NAME, server.url)), ("gRPC", GrpcClient(NAME, server.target))]
        for _, client in clients:
            stack.enter_context(client).wait_until_ready()
        work = Soak(clients, good, expected, bad, options.bad, options.seed)
        begin = time.monotonic()
        results = stack.enter_context(
            contextlib.closing(ordered_map(work, range(options.requests), workers=options.threads))
        )
        for done, (kind, problem, elapsed) in enumerate(results, start=1):
            kinds[kind] += 1
            seconds.append(elapsed)
            if problem:
                problems.append(f"request {done - 1} ({kind}): {problem}")
            if done in (1, options.requests) or done % 500 == 0:
                used = server.memory() if server.runs() else {"own": 0, "resident": 0}
                memory[done] = used["own"]
                print(
                    f"{done:>6} requests {time.monotonic() - begin:>6.0f} s {used['own'] / 2**20:>6.0f} MiB, resident "
                    f"{used['resident'] / 2**20:.0f} MiB",
                    flush=True,
                )
            if not server.runs() or len(problems) > 20:
                break
            if time.monotonic() - begin > options.minutes * 60:
                problems.append(f"stopped after {options.minutes:g} minutes and {done:,} requests (--minutes)")
                break
        batches = {}
        if server.runs():
            batches = server.batches()[NAME]
        else:
            problems.append("the server's process ended")
    return _report(options, kinds, seconds, problems, memory, batches, work.worst, float(np.mean(differences)))


def _report(options, kinds, seconds, problems, memory, batches, worst, difference):
    p50, p90, p99 = np.percentile(seconds, (50, 90, 99)) * 1000
    batched = sum(size * count for size, count in batches.items() if size > 1)
    print()
    for kind, count in sorted(kinds.items()):
        print(f"{kind:<28}{count:>10,}")
    print(f"{'wrong or failed':<28}{len(problems):>10,}")
    print(f"{'largest difference':<28}{worst * 255:>10.2f} /255 on average over a map, tolerance {TOLERANCE * 255:.0f}")
    print(
        f"{'from keras_recnet.saliency':<28}{difference * 255:>10.2f} /255 on average, tolerance {TOLERANCE * 255:.0f}"
    )
    if difference > TOLERANCE:
        problems.append(f"the SavedModel's maps differ from keras_recnet.saliency's by {difference * 255:.2f}/255")
    print(f"{'p50, p90, p99':<28}{p50:>10.0f} {p90:.0f} {p99:.0f} ms, {options.threads} requests at a time")
    print(f"{'batched with others':<28}{batched:>10,} requests, up to {max(batches, default=0)} in a batch")
    if not batched:
        problems.append("no requests were batched: too few concurrent requests (--threads)")
    if WARM in memory and len(seconds) > WARM:
        change = memory[max(memory)] / memory[WARM] - 1
        print(f"{'memory after ' + format(WARM, ','):<28}{memory[WARM] / 2**20:>10.0f} MiB")
        print(
            f"{'memory at the end':<28}{memory[max(memory)] / 2**20:>10.0f} MiB, {change:+.1%}, at most ±{GROWTH:.0%}"
        )
        if abs(change) > GROWTH:
            problems.append(f"memory changed by {change:+.1%} after the first {WARM:,} requests")
    else:
        print(f"{'memory':<28}not checked: needs more than {WARM:,} requests")
    for line in problems[:20]:
        print(f"  {line}")
    print("Failed." if problems else "Passed.")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--bad", type=float, default=0.1, help="share of requests with a bad file")
    parser.add_argument("--threads", type=int, default=8, help="concurrent requests")
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help=f"folder with versions of the SavedModel of {NAME}; exported if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open(os.devnull, "w") as nowhere:
        folder = options.model
        if folder is None:
            from keras_recnet.export import export_model

            folder = Path(temporary) / NAME
            export_model(NAME, folder, format="savedmodel", signatures=["encoded"], log=print)
        # TensorFlow writes a line for every broken JPEG.
        return bool(soak(options, folder, nowhere))


if __name__ == "__main__":
    sys.exit(main())
