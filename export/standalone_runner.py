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
    """Return `run(signature, inputs) -> outputs` (both dicts), and the versions of the packages."""
    if format == "savedmodel":
        import tensorflow as tf

        signatures = tf.saved_model.load(artifact).signatures

        def run(name, inputs):
            outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
            return {key: value.numpy() for key, value in outputs.items()}

        return run, {"tensorflow": tf.__version__}
    if format == "onnx":
        import onnxruntime

        sessions = {
            SIGNATURES.get(file.stem, file.stem): onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            for file in Path(artifact).glob("*.onnx")
        }

        def run(name, inputs):
            outputs = [output.name for output in sessions[name].get_outputs()]
            return without_next(dict(zip(outputs, sessions[name].run(outputs, inputs), strict=True)))

        return run, {"onnxruntime": onnxruntime.__version__}
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

        return run, {"openvino": openvino.__version__}
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    # ai_edge_litert has no Flex operations: a file that needs them fails here.
    interpreter = Interpreter(artifact)
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    return lambda name, inputs: runners[name](**inputs), {"ai-edge-litert": version("ai-edge-litert")}


def without_next(outputs):
    """Remove `next_` from the names of the state after an image, so that they are those of the other formats."""
    return {name.removeprefix("next_"): value for name, value in outputs.items()}


def stream(run, images, names, state):
    """Return the maps of a group, `(images, H, W, 1)`: all images update the state, then each is decoded with it.

    Args:
        run: see `load`.
        images: the images.
        names: names of the inputs of `step` (none without a state) and `decode`.
        state: shapes of the state's tensors by name, which are 0 before the first image.
    """
    features = [run("encode", {"image": image}) for image in images]
    state = {name: np.zeros(shape, "float32") for name, shape in state.items()}
    for of_image in features if state else ():
        tensors = {**of_image, **state}
        state = run("step", {name: tensors[name] for name in names["step"]})
    decoded = []
    for of_image in features:
        tensors = {**of_image, **state}
        decoded.append(run("decode", {name: tensors[name] for name in names["decode"]})["saliency"])
    return {"saliency": np.concatenate(decoded)}


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
    run, versions = load(format, artifact)
    loading = time.perf_counter() - start
    results = []
    for number, call in enumerate(description["calls"]):
        if "stream" in call:
            images = [np.load(folder / name) for name in call["stream"]]
            work = functools.partial(stream, run, images, **description["group"])
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
