"""The proof of an export: the same pictures through Keras and, in a process without this library, through the artifact.

`prepare` runs where the model is, and leaves the pictures and what Keras makes of them in a folder; `run` lets
`keras_recnet.export.standalone_runner` work through them; `compare` holds both beside each other.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from keras_recnet.errors import RecNetError
from keras_recnet.export import drawn_pictures
from keras_recnet.presets import COSALIENCY

# Mean absolute difference of a map from Keras' that is let through, by format and precision. Weights that are rounded
# to float16 cost about 0.001.
TOLERANCE = {
    ("savedmodel", "float32"): 1e-5,
    ("savedmodel", "float16"): 5e-3,
    ("litert", "float32"): 1e-4,
    ("litert", "float16"): 5e-3,
}
PNG_ROUNDING = 0.5 / 255  # what 8 bits cost, at most
GROUP = 3  # images in the group of the proof


class ConversionError(RecNetError):
    """A conversion that failed, or whose artifact does not compute what Keras computes."""


def prepare(model, folder: Path, *, kind: str, names: list[str], max_pixels: int, input_dtype: str = "float32") -> None:
    """Writes what the artifact shall be given, `calls.json`, and what Keras makes of it, `expected.json`.

    Args:
        model: the `RecNet` or `RCAUNet`, in float32.
        folder: where to; made if missing.
        kind: `"savedmodel"` or `"litert"`.
        names: of the signatures that the artifact has.
        max_pixels: as the SavedModel's.
        input_dtype: of the images that a LiteRT file takes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = _cases_of_groups if model.task == COSALIENCY else _cases_of_images
    calls, expected = [], []
    for number, (call, outputs) in enumerate(cases(model, kind, names, max_pixels, np.dtype(input_dtype))):
        of_call = {}
        if "stream" in call:
            of_call["stream"] = [_keep(folder, f"in-{number}-{i}", image) for i, image in enumerate(call["stream"])]
        else:
            inputs = {key: _keep(folder, f"in-{number}-{key}", value) for key, value in call["inputs"].items()}
            of_call |= {"signature": call["signature"], "inputs": inputs}
        calls.append(of_call)
        expected.append({key: _keep(folder, f"expected-{number}-{key}", value) for key, value in outputs.items()})
    state = getattr(model, "step", None)
    described = {"calls": calls, "state_channels": state.input["state"].shape[-1] if state else 0}
    (folder / "calls.json").write_text(json.dumps(described))
    (folder / "expected.json").write_text(json.dumps(expected))


def run(kind: str, artifact: Path, folder: Path) -> None:
    """Lets the artifact work through the calls in a process that cannot import keras_recnet.

    Raises:
        ConversionError: if it cannot.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.TemporaryDirectory() as empty:
        # a copy, so that the folder of the original is not on the path
        script = shutil.copy(Path(__file__).with_name("standalone_runner.py"), empty)
        command = [sys.executable, "-I", script, kind, artifact.resolve(), folder.resolve()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=empty)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise ConversionError(f"The artifact does not run by itself (status {done.returncode}):\n{last}")


def compare(folder: Path, tolerance: float) -> dict:
    """What the artifact made beside what Keras made.

    Returns:
        A dict for `export.json`: `differences`, one a signature and output with `mean` and `max` absolute difference,
        `tolerance` of the mean and `milliseconds` of the fastest call; `loading` in seconds; `versions`.

    Raises:
        ConversionError: if an output is missing, has another shape or differs by more than is let through, or if the
            process imported what it must not.
    """
    calls = json.loads((folder / "calls.json").read_text())["calls"]
    expected = json.loads((folder / "expected.json").read_text())
    told = json.loads((folder / "results.json").read_text())
    if not told["alone"]:
        raise ConversionError("The proof is worthless: its process imported keras_recnet.")
    rows = {}
    for call, outputs, result in zip(calls, expected, told["results"], strict=True):
        signature = call.get("signature", "encode → step → decode")
        for key, value in outputs.items():
            if key not in result["outputs"]:
                raise ConversionError(f"{signature}: no output {key!r}. Received: {', '.join(result['outputs'])}")
            mean, largest, allowed = _difference(folder, value, result["outputs"][key], tolerance)
            row = {"signature": signature, "output": key, "mean": mean, "max": largest, "tolerance": allowed}
            old = rows.setdefault((signature, key), {**row, "milliseconds": result["milliseconds"]})
            old["mean"], old["max"] = max(old["mean"], mean), max(old["max"], largest)
            old["milliseconds"] = min(old["milliseconds"], result["milliseconds"])
    for row in rows.values():
        if not row["mean"] <= row["tolerance"]:
            raise ConversionError(
                f"{row['signature']}: `{row['output']}` is not what Keras computes: they may differ by "
                f"{row['tolerance']:.2g} on average. Received: {row['mean']:.3g} (largest {row['max']:.3g})"
            )
    return {"differences": list(rows.values()), "loading": told["loading"], "versions": told["versions"]}


def _difference(folder, expected, received, tolerance):
    """Mean and largest absolute difference of two outputs, and what is let through."""
    if isinstance(expected, list):  # PNG files, or an empty one where there is no map
        tolerance += PNG_ROUNDING
        expected, received = ([_map_in(folder / name) for name in names] for names in (expected, received))
        shapes = [[one.shape for one in several] for several in (expected, received)]
        expected, received = (np.concatenate([one.ravel() for one in several]) for several in (expected, received))
    else:
        expected, received = np.load(folder / expected), np.load(folder / received)
        shapes = [expected.shape, received.shape]
    if shapes[0] != shapes[1]:
        raise ConversionError(f"An output has another shape than Keras': {shapes[0]} expected. Received: {shapes[1]}")
    difference = np.abs(received.astype(np.float64) - expected)
    return float(difference.mean()), float(difference.max()), tolerance


def _map_in(file):
    data = file.read_bytes()
    if not data:
        return np.zeros((0, 0))
    # 8 bits of what the artifact made, all bits of what Keras made
    return np.load(file) if file.suffix == ".npy" else drawn_pictures.of_png(data) / 255.0


def _keep(folder, name, value):
    if isinstance(value, list):
        names = []
        for index, one in enumerate(value):
            if isinstance(one, np.ndarray):
                names.append(_keep(folder, f"{name}-{index}", one))
            else:
                names.append(f"{name}-{index}")
                (folder / names[-1]).write_bytes(one)
        return names
    np.save(folder / f"{name}.npy", value)
    return f"{name}.npy"


def _cases_of_images(model, kind, names, max_pixels, dtype):
    size = tuple(model.image_size)
    sizes = drawn_pictures.sizes_for(size)
    drawings = [drawn_pictures.drawn(size_of_one, seed) for seed, size_of_one in enumerate(sizes)]
    inference = model.to_inference()
    if kind == "litert":
        for drawing in drawings:
            image = _seen(drawing[None], size).astype(dtype)
            yield {"signature": "serving_default", "inputs": {"image": image}}, {"saliency": _run(inference, image)}
        return

    def maps(images):
        return _resized(_run(inference, _seen(images, size)), images.shape[1:3])

    batches = [np.stack([drawing, 255 - drawing]) for drawing in drawings[:1]] + [one[None] for one in drawings[1:]]
    for name, as_type in (("serving_default", np.float32), ("uint8", np.uint8)):
        if name in names:
            for images in batches:
                yield {"signature": name, "inputs": {"images": images.astype(as_type)}}, {"saliency": maps(images)}
    if "branches" in names:
        for images in batches[:2]:
            logits = _run(model, _seen(images, size))
            f, b = np.split(_resized(1 / (1 + np.exp(-logits.astype(np.float64))), images.shape[1:3]), 2, axis=-1)
            outputs = {"foreground": f, "background": b, "saliency": maps(images)}
            yield {"signature": "branches", "inputs": {"images": images.astype(np.float32)}}, outputs
    if "encoded" in names:
        files = [drawn_pictures.as_png(drawing) for drawing in drawings]
        bad = [b"not a picture", files[0][: len(files[0]) // 2], b"", drawn_pictures.png_header((max_pixels, 2))]
        good = [maps(drawing[None])[0, ..., 0] for drawing in drawings]
        outputs = {
            "saliency_bytes": [*good, *[b""] * len(bad)],
            "status": np.array([0] * len(good) + [1, 1, 1, 2], np.int32),
        }
        yield {"signature": "encoded", "inputs": {"image_bytes": [*files, *bad]}}, outputs


def _cases_of_groups(model, kind, names, max_pixels, dtype):
    del max_pixels
    size = tuple(model.image_size)
    inference = model.to_inference()
    drawings = np.stack([drawn_pictures.drawn(drawn_pictures.sizes_for(size)[0], seed) for seed in range(GROUP)])
    resized = _seen(drawings, size)
    if kind == "litert":
        resized = resized.astype(dtype).astype(np.float32)
    whole = _run(inference, {"images": resized[None], "mask": np.ones((1, GROUP), bool)})[0]
    if kind == "savedmodel" and "group" in names:
        # a whole group, and a shorter one padded to its length
        images = np.stack([drawings, np.concatenate([drawings[1:], np.zeros_like(drawings[:1])])])
        mask = np.array([[True] * GROUP, [True] * (GROUP - 1) + [False]])
        short = _run(inference, {"images": resized[None, 1:], "mask": np.ones((1, GROUP - 1), bool)})[0]
        expected = [_resized(maps, drawings.shape[1:3]) for maps in (whole, short)]
        # what stands at padded images means nothing, so it is taken from Keras' own call
        padded = {"images": np.stack([_seen(group, size) for group in images]), "mask": mask}
        last = _resized(_run(inference, padded)[1, -1:], drawings.shape[1:3])
        outputs = {"saliency": np.stack([expected[0], np.concatenate([expected[1], last])])}
        yield {"signature": "group", "inputs": {"images": images.astype(np.float32), "mask": mask}}, outputs
    if {"encode", "decode"} <= set(names):
        images = drawings.astype(np.float32) if kind == "savedmodel" else resized.astype(dtype)
        yield {"stream": [image[None] for image in images]}, {"saliency": whole}


def _run(model, inputs):
    import keras

    return keras.ops.convert_to_numpy(model(inputs, training=False))


def _seen(images, size):
    """What prediction shows a network of `(batch, H, W, 3)`, uint8, by Pillow: float32 of `size`."""
    resized = [Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in resized]).astype(np.float32)


def _resized(maps, size):
    """Resizes maps `(batch, H, W, C)` to `(height, width)`, bilinear with antialiasing, by Pillow in floating point."""
    if maps.shape[1:3] == tuple(size):
        return maps.astype(np.float32)
    planes = np.moveaxis(maps, -1, 1).reshape(-1, *maps.shape[1:3]).astype(np.float32)
    resized = [np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes]
    return np.moveaxis(np.stack(resized).reshape(len(maps), -1, *size), 1, -1)
