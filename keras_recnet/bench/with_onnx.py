"""ONNX files in ONNX Runtime on the CPU. In a burst, several threads share one single-threaded session."""

import numpy as np

from keras_recnet.bench.candidates import Candidate
from keras_recnet.bench.networks import MAP, Concurrent, Network
from keras_recnet.errors import ConfigError
from keras_recnet.inference.onnx_session import TYPES, open_session

CHANNELS = (1, 3, 4)


class Onnx(Network):
    """A network for one image, with channels first or last.

    The input is noise: uint8 in 0…255, or float with mean 0 and standard deviation 1.
    """

    def __init__(self, candidate: Candidate, threads: int):
        self._file = candidate.source
        session = open_session(self._file, threads=threads)
        if len(session.get_inputs()) != 1:
            names = ", ".join(node.name for node in session.get_inputs())
            raise ConfigError(f"{self._file}: must have one input, an image. Received: {names}")
        (self._input,) = session.get_inputs()
        if self._input.type not in TYPES:
            raise ConfigError(
                f"{self._file}: the type of its input {self._input.name} must be one of {', '.join(TYPES)}. "
                f"Received: {self._input.type}"
            )
        shape = _fixed_shape(self._input.shape, candidate.size, self._file)
        self._inputs = {self._input.name: _noise(shape, TYPES[self._input.type])}
        self._single_threaded = None
        super().__init__(
            {MAP: lambda: session.run(None, self._inputs)},
            input_shape=shape,
            device=f"CPU, {threads} threads" if threads > 1 else "CPU, 1 thread",
            threads=threads,
            packages=("onnxruntime",),
        )

    def burst(self, images):
        if self._single_threaded is None:
            self._single_threaded, self._concurrent = open_session(self._file, threads=1), Concurrent(self.threads)
        self._concurrent(lambda: self._single_threaded.run(None, self._inputs), images)


def _noise(shape, dtype):
    random = np.random.default_rng(0)
    return random.integers(0, 256, shape).astype(dtype) if dtype == "uint8" else random.normal(size=shape).astype(dtype)


def _fixed_shape(shape, size, file):
    """Return the shape of one image: an unknown batch size becomes 1, unknown height and width become `size`."""
    batch, *rest = [length if isinstance(length, int) and length > 0 else None for length in shape] or [None]
    is_image = len(rest) == 3 and (rest[0] in CHANNELS or rest[2] in CHANNELS)
    if None not in rest:
        return ((batch or 1), *rest)
    spatial = (1, 2) if is_image and rest[0] in CHANNELS else (0, 1)
    if not is_image or None in (length for index, length in enumerate(rest) if index not in spatial):
        raise ConfigError(f"{file}: its input must be an image (batch, channels, height, width). Received: {shape}")
    if size is None:
        raise ConfigError(f"{file}: accepts any image size. Set it with --against-size. Received: {shape}")
    for index, length in zip(spatial, size, strict=True):
        rest[index] = rest[index] or length
    return ((batch or 1), *rest)
