"""What a benchmark asks of a network, whatever runs it."""

import concurrent.futures
import functools
import importlib
import importlib.metadata
from collections.abc import Callable

import numpy as np

from keras_recnet.bench.candidates import KERAS, LITERT, ONNX, PRODUCT, SAVED_MODEL, Contestant

MAP, ENCODE, STEP, DECODE, GROUP = "map", "encode", "step", "decode", "group"
IMAGES = 5  # of the group that the part "group" runs on

_CLASSES = {  # (engine, of groups) -> module of this package, class
    (LITERT, False): ("with_litert", "LiteRT"),
    (LITERT, True): ("with_litert", "LiteRTGroups"),
    (KERAS, False): ("with_keras", "Keras"),
    (KERAS, True): ("with_keras", "KerasGroups"),
    (SAVED_MODEL, False): ("with_tensorflow", "SavedModel"),
    (SAVED_MODEL, True): ("with_tensorflow", "SavedModelGroups"),
    (PRODUCT, False): ("with_tensorflow", "Product"),
    (ONNX, False): ("with_onnx", "Onnx"),
}


def load(contestant: Contestant, threads: int) -> "Network":
    """Loads what a contestant runs, for so many threads.

    Raises:
        RecNetError: if that is damaged, or a package is not installed.
    """
    module, name = _CLASSES[contestant.engine, contestant.of_groups]
    return getattr(importlib.import_module(f"keras_recnet.bench.{module}"), name)(contestant, threads)


class Network:
    """A loaded network, with a picture that is decoded and of its size.

    Attributes:
        parts: name → a function that runs this part once, from an array to an array. The whole comes last.
        device: what it runs on.
        threads: that it works with; None: it cannot be told how many.
        packages: whose versions count for the numbers.
        input_shape: of one run.
    """

    def __init__(self, parts: dict[str, Callable], *, input_shape: tuple, device: str, threads: int | None, packages):
        self.parts, self.input_shape = parts, tuple(input_shape)
        self.device, self.threads, self.packages = device, threads, tuple(packages)

    def burst(self, pictures: int) -> None:
        """Works off so many pictures as fast as all threads together can."""
        raise NotImplementedError

    def operations(self) -> dict[str, int | None]:
        """Floating point operations of one run of each part; not of all parts they are known."""
        return {}

    def facts(self) -> dict:
        """What a report says about it."""
        return {
            "parts": list(self.parts),
            "input_shape": list(self.input_shape),
            "device": self.device,
            "threads": self.threads,
            "versions": {package: importlib.metadata.version(package) for package in self.packages},
        }


class GroupNetwork(Network):
    """A network of groups: the parts encode, step and decode on one image each, and a whole group, told per image.

    Args:
        engine: a `group_stream.GroupEngine`.
    """

    def __init__(self, engine, **facts):
        self.engine, self._image = engine, noise((*engine.size, 3), "uint8")
        self.features = engine.encode(self._image)
        self.state = engine.advance(self.features["x"], None) if engine.has_state else None
        parts = {ENCODE: self.encode, STEP: self.step, DECODE: self.decode, GROUP: self._group}
        if not engine.has_state:
            del parts[STEP]
        super().__init__(parts, input_shape=(1, *engine.size, 3), **facts)

    def encode(self, engine=None):
        return (engine or self.engine).encode(self._image)

    def step(self):
        return self.engine.advance(self.features["x"], self.state)

    def decode(self, engine=None):
        return (engine or self.engine).decode(self.features, self.state)

    def with_group(self, operations: dict[str, int | None]) -> dict[str, int | None]:
        """Operations of the parts → the same and those of a group, an image."""
        known = all(count is not None for count in operations.values())
        return {**operations, GROUP: sum(operations.values()) if known else None}

    def _group(self):
        features, state = [self.encode() for _ in range(IMAGES)], None
        for of_image in features if self.engine.has_state else ():
            state = self.engine.advance(of_image["x"], state)
        return [self.engine.decode(of_image, state) for of_image in features]


def pictures_in(part: str) -> int:
    """How many pictures one run of a part works on."""
    return IMAGES if part == GROUP else 1


class AtOnce:
    """Calls a function many times from several threads."""

    def __init__(self, threads: int):
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)

    def __call__(self, function: Callable, times: int) -> None:
        for done in [self._pool.submit(function) for _ in range(times)]:
            done.result()


@functools.lru_cache(maxsize=4)  # so that making it is not timed with the rest of a burst
def noise(shape: tuple[int, ...], dtype="float32") -> np.ndarray:
    """A picture, or several, RGB in 0…255; to be read only."""
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
