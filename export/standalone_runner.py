"""Runs an exported artifact in a process that cannot import keras_recnet: `bare.py KIND ARTIFACT CALLS`.

CALLS is a folder with `calls.json`, a list of `{"signature", "inputs"}`; inputs are names of .npy files, or lists of
names of files whose bytes are meant. A call with `"stream"` in place of `"signature"` is a group that goes through the
signatures `encode`, `step` and `decode`, image by image. The outputs go into the same folder, and `results.json` says
where, how long each took, and what ran it.

This file is run as a script and stands alone on purpose.
"""

import functools
import json
import sys
import time
from pathlib import Path

import numpy as np

FORBIDDEN = "keras_recnet"


class Forbidden:
    """Refuses the import that would make a proof worthless."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == FORBIDDEN:
            raise ModuleNotFoundError(f"{name} must not be imported here", name=name)


def load(kind, artifact):
    """Gives a function `run(signature, inputs) -> outputs` of dicts, the signatures' names, and what runs them."""
    if kind == "savedmodel":
        import tensorflow as tf

        signatures = tf.saved_model.load(artifact).signatures

        def run(name, inputs):
            outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
            return {key: value.numpy() for key, value in outputs.items()}

        return run, list(signatures), {"tensorflow": tf.__version__}
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    # The interpreter of this package knows no Flex operations: a file that needs them fails here.
    interpreter = Interpreter(artifact)
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    return lambda name, inputs: runners[name](**inputs), list(runners), {"ai-edge-litert": version("ai-edge-litert")}


def stream(run, names, images, state_channels):
    """`saliency` `(images, H, W, 1)` of a group: each image taken into the state, then each decoded with the last."""
    features = [run("encode", {"image": image}) for image in images]
    group = {}
    if "step" in names:
        x = features[0]["x"]
        state = np.zeros((*x.shape[:-1], state_channels), np.float32)
        state[..., : x.shape[-1]] = x
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
        for name_of_one, data in zip(names, value, strict=True):
            (folder / name_of_one).write_bytes(data)
        return names
    np.save(folder / f"{name}.npy", value)
    return f"{name}.npy"


def main(kind, artifact, calls):
    """Makes all calls twice, the first time to warm up, and writes what came out."""
    folder = Path(calls)
    described = json.loads((folder / "calls.json").read_text())
    start = time.perf_counter()
    run, names, versions = load(kind, artifact)
    loading = time.perf_counter() - start
    results = []
    for number, call in enumerate(described["calls"]):
        if "stream" in call:
            images = [np.load(folder / name) for name in call["stream"]]
            work = functools.partial(stream, run, names, images, described["state_channels"])
        else:
            inputs = {key: read(folder, value) for key, value in call["inputs"].items()}
            work = functools.partial(run, call["signature"], inputs)
        work()
        start = time.perf_counter()
        outputs = work()
        milliseconds = (time.perf_counter() - start) * 1000
        files = {key: write(folder, f"{number}-{key}", np.asarray(value)) for key, value in outputs.items()}
        results.append({"milliseconds": milliseconds, "outputs": files})
    alone = FORBIDDEN not in sys.modules
    told = {"loading": loading, "versions": versions, "alone": alone, "results": results}
    (folder / "results.json").write_text(json.dumps(told))


if __name__ == "__main__":
    sys.meta_path.insert(0, Forbidden())
    main(*sys.argv[1:])
