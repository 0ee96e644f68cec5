"""Interface of the networks in a benchmark, common to all engines."""

import concurrent.futures
import functools
import importlib
import importlib.metadata
from collections.abc import Callable

import numpy as np

from keras_recnet.bench.candidates import KERAS, LITERT, ONNX, PRODUCT, SAVED_MODEL, Candidate
from keras_recnet.inference.group_stream import DECODE, ENCODE, STEP, empty_state

MAP, GROUP = "map", "group"
GROUP_SIZE = 5  # images in the part "group"

_CLASSES = {  # (engine, takes groups) → module of this package, class
    (LITERT, False): ("with_litert", "LiteRT"),
    (LITERT, True): ("with_litert", "LiteRTGroups"),
    (KERAS, False): ("with_keras", "Keras"),
    (KERAS, True): ("with_keras", "KerasGroups"),
    (SAVED_MODEL, False): ("with_tensorflow", "SavedModel"),
    (SAVED_MODEL, True): ("with_tensorflow", "SavedModelGroups"),
    (PRODUCT, False): ("with_tensorflow", "MatrixProduct"),
    (ONNX, False): ("with_onnx", "Onnx"),
}


def load(candidate: Candidate, threads: int) -> "Network":
    """Load the network of a candidate.

    Raises:
        RecNetError: if the source is damaged, or a package is not installed.
    """
    module, name = _CLASSES[candidate.engine, candidate.takes_groups]
    return getattr(importlib.import_module(f"keras_recnet.bench.{module}"), name)(candidate, threads)


class Network:
    """A loaded network with a decoded image of its input size.

    Attributes:
        parts: name → function that runs this part once, from array to array. The last part is the whole network.
        device: the device that runs the network.
        threads: number of threads; None if the engine cannot limit it.
        packages: packages whose versions are reported.
        input_shape: shape of the input of one run.
    """

    def __init__(self, parts: dict[str, Callable], *, input_shape: tuple, device: str, threads: int | None, packages):
        self.parts, self.input_shape = parts, tuple(input_shape)
        self.device, self.threads, self.packages = device, threads, tuple(packages)

    def burst(self, images: int) -> None:
        """Process a number of images as fast as possible with all threads."""
        raise NotImplementedError

    def operations(self) -> dict[str, int | None]:
        """Return the floating-point operations of one run of each part; parts or values may be missing."""
        return {}

    def facts(self) -> dict:
        """Return the properties for the report."""
        return {
            "parts": list(self.parts),
            "input_shape": list(self.input_shape),
            "device": self.device,
            "threads": self.threads,
            "versions": {package: importlib.metadata.version(package) for package in self.packages},
        }


class GroupNetwork(Network):
    """A co-saliency network: the parts encode, step and decode on one image each, and a whole group.

    Args:
        engine: a `keras_recnet.inference.group_stream.GroupEngine`.
    """

    def __init__(self, engine, **facts):
        self.engine, self._image = engine, noise((*engine.size, 3), "uint8")
        self.features = engine.encode(self._image)
        self.state = engine.advance(self.features, empty_state(engine)) if engine.state_shapes else {}
        parts = {ENCODE: self.encode, STEP: self.step, DECODE: self.decode, GROUP: self._group}
        if not engine.state_shapes:
            del parts[STEP]
        super().__init__(parts, input_shape=(1, *engine.size, 3), **facts)

    def encode(self, engine=None):
        return (engine or self.engine).encode(self._image)

    def step(self):
        return self.engine.advance(self.features, self.state)

    def decode(self, engine=None):
        return (engine or self.engine).decode(self.features, self.state)

    def run_group(self, images: int) -> list[np.ndarray]:
        """Run all parts on a group, one image after another."""
        features, state = [self.encode() for _ in range(images)], empty_state(self.engine)
        for image_features in features if state else ():
            state = self.engine.advance(image_features, state)
        return [self.engine.decode(image_features, state) for image_features in features]

    def with_group(self, operations: dict[str, int | None]) -> dict[str, int | None]:
        """Add an entry for a whole group, with its operations per image."""
        known = all(count is not None for count in operations.values())
        return {**operations, GROUP: sum(operations.values()) if known else None}

    def _group(self):
        return self.run_group(GROUP_SIZE)


def images_in(part: str) -> int:
    """Return the number of images in one run of a part."""
    return GROUP_SIZE if part == GROUP else 1


class Concurrent:
    """Calls a function many times from several threads."""

    def __init__(self, threads: int):
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)

    def __call__(self, function: Callable, times: int) -> None:
        for future in [self._pool.submit(function) for _ in range(times)]:
            future.result()


@functools.lru_cache(maxsize=4)  # so that bursts do not include the time to create noise
def noise(shape: tuple[int, ...], dtype="float32") -> np.ndarray:
    """Return random RGB values in 0…255. Do not modify the array."""
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
