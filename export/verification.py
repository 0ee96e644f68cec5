"""Verification of an export: the same images are run through Keras and through the artifact.

`prepare` writes the inputs and the outputs of Keras to a folder, in the process that has the model; `run` runs
`standalone_runner.py` on them, in a process without this library; `compare` compares the outputs.
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
from keras_recnet.export import sample_images
from keras_recnet.presets import COSALIENCY

# Largest mean absolute difference of a map, per format and precision. Weights rounded to float16 cost about 0.001.
TOLERANCE = {
    ("savedmodel", "float32"): 1e-5,
    ("savedmodel", "float16"): 5e-3,
    ("litert", "float32"): 1e-4,
    ("litert", "float16"): 5e-3,
    ("litert", "int8"): 2e-2,
    ("onnx", "float32"): 1e-5,
    ("openvino", "float32"): 1e-5,
}
PNG_ROUNDING = 0.5 / 255  # largest error of 8 bits
GROUP_SIZE = 3


class ConversionError(RecNetError):
    """A conversion failed, or the outputs of the artifact differ from those of Keras."""


def prepare(model, folder: Path, *, kind: str, names: list[str], max_pixels: int, input_dtype: str = "float32") -> None:
    """Write inputs for the artifact, `calls.json`, and the outputs of Keras, `expected.json`.

    Args:
        model: the `RecNet` or `RCAUNet`, in float32.
        folder: output folder; created if it does not exist.
        kind: format, a key of `exporting.FORMATS`.
        names: names of the signatures of the artifact.
        max_pixels: limit of the SavedModel.
        input_dtype: dtype of the images of a LiteRT file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = _group_cases if model.task == COSALIENCY else _image_cases
    calls, expected = [], []
    for number, (case, outputs) in enumerate(cases(model, kind, names, max_pixels, np.dtype(input_dtype))):
        if "stream" in case:
            images = [_save(folder, f"in-{number}-{index}", image) for index, image in enumerate(case["stream"])]
            calls.append({"stream": images})
        else:
            inputs = {key: _save(folder, f"in-{number}-{key}", value) for key, value in case["inputs"].items()}
            calls.append({"signature": case["signature"], "inputs": inputs})
        expected.append({key: _save(folder, f"expected-{number}-{key}", value) for key, value in outputs.items()})
    description = {"calls": calls, "group": inputs_and_state(model) if model.task == COSALIENCY else {}}
    (folder / "calls.json").write_text(json.dumps(description))
    (folder / "expected.json").write_text(json.dumps(expected))


def run(kind: str, artifact: Path, folder: Path) -> None:
    """Run the artifact on the inputs in a process that cannot import keras_recnet.

    Raises:
        ConversionError: if the process fails.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.TemporaryDirectory() as empty:
        # a copy, so that the library's folder is not on the path
        script = shutil.copy(Path(__file__).with_name("standalone_runner.py"), empty)
        command = [sys.executable, "-I", script, kind, artifact.resolve(), folder.resolve()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=empty)
    if done.returncode:
        raise ConversionError(
            f"The artifact does not run without this library (status {done.returncode}):\n{last_lines(done)}"
        )


def last_lines(process: subprocess.CompletedProcess) -> str:
    """Return the last lines that a failed process wrote."""
    return "\n".join((process.stderr or process.stdout).strip().splitlines()[-15:])


def compare(folder: Path, tolerance: float) -> dict:
    """Compare the outputs of the artifact with those of Keras.

    Returns:
        A dict for `export.json`: `differences`, a list with one entry per signature and output (`mean` and `max` of
        the absolute difference, `tolerance` of the mean, `milliseconds` of the fastest call); `loading` in seconds;
        `versions`.

    Raises:
        ConversionError: if an output is missing, has the wrong shape or differs by more than the tolerance, or if the
            process has imported the library.
    """
    calls = json.loads((folder / "calls.json").read_text())["calls"]
    expected = json.loads((folder / "expected.json").read_text())
    report = json.loads((folder / "results.json").read_text())
    if not report["independent"]:
        raise ConversionError("The verification is invalid: its process imported keras_recnet.")
    rows = {}
    for call, outputs, result in zip(calls, expected, report["results"], strict=True):
        signature = call.get("signature", "encode → step → decode")
        for key, value in outputs.items():
            if key not in result["outputs"]:
                raise ConversionError(f"{signature}: no output {key!r}. Received: {', '.join(result['outputs'])}")
            mean, largest, allowed = _difference(folder, value, result["outputs"][key], tolerance)
            row = {"signature": signature, "output": key, "mean": mean, "max": largest, "tolerance": allowed}
            row = rows.setdefault((signature, key), {**row, "milliseconds": result["milliseconds"]})
            row["mean"], row["max"] = max(row["mean"], mean), max(row["max"], largest)
            row["milliseconds"] = min(row["milliseconds"], result["milliseconds"])
    for row in rows.values():
        if not row["mean"] <= row["tolerance"]:
            raise ConversionError(
                f"{row['signature']}: `{row['output']}` differs from the output of Keras by more than "
                f"{row['tolerance']:.2g} on average. Received: {row['mean']:.3g} (largest {row['max']:.3g})"
            )
    return {"differences": list(rows.values()), "loading": report["loading"], "versions": report["versions"]}


def _difference(folder, expected, received, tolerance):
    """Return the mean and the largest absolute difference of two outputs, and the tolerance of the mean."""
    if isinstance(expected, list):  # PNG files, empty for images without a map
        tolerance += PNG_ROUNDING
        expected, received = ([_read_map(folder / name) for name in names] for names in (expected, received))
        shapes = [[array.shape for array in arrays] for arrays in (expected, received)]
        expected, received = (np.concatenate([array.ravel() for array in arrays]) for arrays in (expected, received))
    else:
        expected, received = np.load(folder / expected), np.load(folder / received)
        shapes = [expected.shape, received.shape]
    if shapes[0] != shapes[1]:
        raise ConversionError(f"An output must have the shape {shapes[0]}, as in Keras. Received: {shapes[1]}")
    difference = np.abs(received.astype(np.float64) - expected)
    return float(difference.mean()), float(difference.max()), tolerance


def _read_map(file):
    data = file.read_bytes()
    if not data:
        return np.zeros((0, 0))
    # a PNG file from the artifact, an array from Keras
    return np.load(file) if file.suffix == ".npy" else sample_images.decode_png(data) / 255.0


def _save(folder, name, value):
    if isinstance(value, list):
        names = []
        for index, one in enumerate(value):
            if isinstance(one, np.ndarray):
                names.append(_save(folder, f"{name}-{index}", one))
            else:
                names.append(f"{name}-{index}")
                (folder / names[-1]).write_bytes(one)
        return names
    np.save(folder / f"{name}.npy", value)
    return f"{name}.npy"


def _image_cases(model, kind, names, max_pixels, dtype):
    size = tuple(model.image_size)
    sizes = sample_images.image_sizes(size)
    drawings = [sample_images.draw(size_of_image, seed) for seed, size_of_image in enumerate(sizes)]
    inference = model.to_inference()
    if kind == "litert":
        for drawing in drawings:
            image = _resize_images(drawing[None], size).astype(dtype)
            yield {"signature": "serving_default", "inputs": {"image": image}}, {"saliency": _predict(inference, image)}
        return
    if kind != "savedmodel":  # any batch size
        images = np.concatenate([_resize_images(drawing[None], size) for drawing in drawings])
        for batch in (images[:1], images):
            yield {"signature": "serving_default", "inputs": {"image": batch}}, {"saliency": _predict(inference, batch)}
        return

    def maps(images):
        return _resize_maps(_predict(inference, _resize_images(images, size)), images.shape[1:3])

    batches = [np.stack([drawing, 255 - drawing]) for drawing in drawings[:1]] + [image[None] for image in drawings[1:]]
    for name, as_type in (("serving_default", np.float32), ("uint8", np.uint8)):
        if name in names:
            for images in batches:
                yield {"signature": name, "inputs": {"images": images.astype(as_type)}}, {"saliency": maps(images)}
    if "branches" in names:
        for images in batches[:2]:
            logits = _predict(model, _resize_images(images, size))
            f, b = np.split(_resize_maps(1 / (1 + np.exp(-logits.astype(np.float64))), images.shape[1:3]), 2, axis=-1)
            outputs = {"foreground": f, "background": b, "saliency": maps(images)}
            yield {"signature": "branches", "inputs": {"images": images.astype(np.float32)}}, outputs
    if "encoded" in names:
        files = [sample_images.encode_png(drawing) for drawing in drawings]
        bad = [b"not an image", files[0][: len(files[0]) // 2], b"", sample_images.png_header((max_pixels, 2))]
        good = [maps(drawing[None])[0, ..., 0] for drawing in drawings]
        outputs = {
            "saliency_bytes": [*good, *[b""] * len(bad)],
            "status": np.array([0] * len(good) + [1, 1, 1, 2], np.int32),
        }
        yield {"signature": "encoded", "inputs": {"image_bytes": [*files, *bad]}}, outputs


def _group_cases(model, kind, names, max_pixels, dtype):
    del max_pixels
    size = tuple(model.image_size)
    inference = model.to_inference()
    drawings = np.stack([sample_images.draw(sample_images.image_sizes(size)[0], seed) for seed in range(GROUP_SIZE)])
    resized = _resize_images(drawings, size)
    if kind == "litert":
        resized = resized.astype(dtype).astype(np.float32)
    whole = _predict(inference, {"images": resized[None], "mask": np.ones((1, GROUP_SIZE), bool)})[0]
    if kind == "savedmodel" and "group" in names:
        # a full group, and a shorter one with padding
        images = np.stack([drawings, np.concatenate([drawings[1:], np.zeros_like(drawings[:1])])])
        mask = np.array([[True] * GROUP_SIZE, [True] * (GROUP_SIZE - 1) + [False]])
        short = _predict(inference, {"images": resized[None, 1:], "mask": np.ones((1, GROUP_SIZE - 1), bool)})[0]
        expected = [_resize_maps(maps, drawings.shape[1:3]) for maps in (whole, short)]
        # maps of padding have no meaning, but the comparison needs Keras' values
        padded = {"images": np.stack([_resize_images(group, size) for group in images]), "mask": mask}
        last = _resize_maps(_predict(inference, padded)[1, -1:], drawings.shape[1:3])
        outputs = {"saliency": np.stack([expected[0], np.concatenate([expected[1], last])])}
        yield {"signature": "group", "inputs": {"images": images.astype(np.float32), "mask": mask}}, outputs
    if {"encode", "decode"} <= set(names):
        images = drawings.astype(np.float32) if kind == "savedmodel" else resized.astype(dtype)
        yield {"stream": [image[None] for image in images]}, {"saliency": whole}


def inputs_and_state(model):
    """Return the arguments `names` and `state` of `standalone_runner.stream`."""
    step = model.step
    return {
        "names": {"step": [] if step is None else list(step.input), "decode": list(model.decoder.input)},
        "state": {} if step is None else {name: [1, *tensor.shape[1:]] for name, tensor in step.output.items()},
    }


def _predict(model, inputs):
    import keras

    return keras.ops.convert_to_numpy(model(inputs, training=False))


def _resize_images(images, size):
    """Resize uint8 images `(batch, H, W, 3)` with Pillow, as prediction does, and return float32."""
    resized = [Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in resized]).astype(np.float32)


def _resize_maps(maps, size):
    """Resize maps `(batch, H, W, C)` with Pillow in floating point, bilinear with antialiasing."""
    if maps.shape[1:3] == tuple(size):
        return maps.astype(np.float32)
    planes = np.moveaxis(maps, -1, 1).reshape(-1, *maps.shape[1:3]).astype(np.float32)
    resized = [np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes]
    return np.moveaxis(np.stack(resized).reshape(len(maps), -1, *size), 1, -1)
