"""Run an exported artifact in a process that cannot import keras_recnet: `standalone_runner.py FORMAT ARTIFACT CALLS`.

CALLS is a folder with `calls.json`, a list of `{"signature", "inputs"}`. An input is the name of a .npy file, or a list
of names of files whose bytes are the input. A call with `"stream"` instead of `"signature"` runs a group through the
signatures `encode`, `step` and `decode`, image by image. The outputs are written to the same folder. `results.json`
lists their files, the time of each call and the versions of the runtime.

This script must not depend on the library.
"""

import functools
import json
import sys
import time
from pathlib import Path

import numpy as np

LIBRARY = "keras_recnet"
SIGNATURES = {"model": "serving_default"}  # ONNX and OpenVINO: name of a file, if it is not that of the signature


class ImportBlocker:
    """Import hook that blocks the library."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == LIBRARY:
            raise ModuleNotFoundError(f"{name} must not be imported here", name=name)


def load(format, artifact):
    """Return `run(signature, inputs) -> outputs` (both dicts), the names of the signatures, and package versions."""
    if format == "savedmodel":
        import tensorflow as tf

        signatures = tf.saved_model.load(artifact).signatures

        def run(name, inputs):
            outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
            return {key: value.numpy() for key, value in outputs.items()}

        return run, list(signatures), {"tensorflow": tf.__version__}
    if format == "onnx":
        import onnxruntime

        sessions = {
            SIGNATURES.get(file.stem, file.stem): onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            for file in Path(artifact).glob("*.onnx")
        }

        def run(name, inputs):
            outputs = [output.name for output in sessions[name].get_outputs()]
            return without_next(dict(zip(outputs, sessions[name].run(outputs, inputs), strict=True)))

        return run, list(sessions), {"onnxruntime": onnxruntime.__version__}
    if format == "openvino":
        import openvino

        core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = {
            SIGNATURES.get(file.stem, file.stem): core.compile_model(file, "CPU", exact)
            for file in Path(artifact).glob("*.xml")
        }

        def run(name, inputs):
            results = compiled[name](inputs)
            return without_next({key: results[output] for output in compiled[name].outputs for key in output.names})

        return run, list(compiled), {"openvino": openvino.__version__}
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    # ai_edge_litert has no Flex operations: a file that needs them fails here.
    interpreter = Interpreter(artifact)
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    return lambda name, inputs: runners[name](**inputs), list(runners), {"ai-edge-litert": version("ai-edge-litert")}


def without_next(outputs):
    """Call the output `next_state` `state`, as in the other formats."""
    return {name.removeprefix("next_"): value for name, value in outputs.items()}


def start_state(x, channels):
    """Return the initial state: the first image's `x`, padded with zeros to `channels` (`GroupCell.start`)."""
    return np.pad(x, [(0, 0)] * 3 + [(0, channels - x.shape[-1])])


def stream(run, names, images, state_channels):
    """Return the maps of a group, `(images, H, W, 1)`: all images update the state, then each is decoded with it."""
    features = [run("encode", {"image": image}) for image in images]
    group = {}
    if "step" in names:
        state = start_state(features[0]["x"], state_channels)
        for of_image in features:
            state = run("step", {"x": of_image["x"], "state": state})["state"]
        group["state"] = state
    maps = [run("decode", {**of_image, **group})["saliency"] for of_image in features]
    return {"saliency": np.concatenate(maps)}


def read(folder, value):
    if isinstance(value, list):
        return np.array([(folder / name).read_bytes() for name in value], dtype=object)
    return np.load(folder / value)


def write(folder, name, value):
    if value.dtype.kind == "O":  # files
        names = [f"{name}-{index}" for index in range(len(value))]
        for file, data in zip(names, value, strict=True):
            (folder / file).write_bytes(data)
        return names
    np.save(folder / f"{name}.npy", value)
    return f"{name}.npy"


def main(format, artifact, calls):
    """Run each call twice, the first time to warm up, and write the outputs."""
    folder = Path(calls)
    description = json.loads((folder / "calls.json").read_text())
    start = time.perf_counter()
    run, names, versions = load(format, artifact)
    loading = time.perf_counter() - start
    results = []
    for number, call in enumerate(description["calls"]):
        if "stream" in call:
            images = [np.load(folder / name) for name in call["stream"]]
            work = functools.partial(stream, run, names, images, description["state_channels"])
        else:
            inputs = {key: read(folder, value) for key, value in call["inputs"].items()}
            work = functools.partial(run, call["signature"], inputs)
        work()
        start = time.perf_counter()
        outputs = work()
        milliseconds = (time.perf_counter() - start) * 1000
        files = {key: write(folder, f"{number}-{key}", np.asarray(value)) for key, value in outputs.items()}
        results.append({"milliseconds": milliseconds, "outputs": files})
    independent = LIBRARY not in sys.modules
    report = {"loading": loading, "versions": versions, "independent": independent, "results": results}
    (folder / "results.json").write_text(json.dumps(report))


if __name__ == "__main__":
    sys.meta_path.insert(0, ImportBlocker())
    main(*sys.argv[1:])
