"""ONNX files in ONNX Runtime, on the CPU. A burst of pictures is one run of one thread for each of the threads."""

import numpy as np

from keras_recnet.bench.candidates import Contestant
from keras_recnet.bench.networks import MAP, AtOnce, Network
from keras_recnet.errors import ConfigError

TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
CHANNELS = (1, 3, 4)


class Onnx(Network):
    """A network of one picture, in any order of its dimensions: noise with mean 0 and deviation 1, or in 0…255."""

    def __init__(self, contestant: Contestant, threads: int):
        self._file = contestant.source
        session = self._session(threads)
        if len(session.get_inputs()) != 1:
            names = ", ".join(one.name for one in session.get_inputs())
            raise ConfigError(f"{self._file}: must have one input, a picture. Received: {names}")
        (self._input,) = session.get_inputs()
        if self._input.type not in TYPES:
            raise ConfigError(
                f"{self._file}: its input {self._input.name} must be of one of the types {', '.join(TYPES)}. "
                f"Received: {self._input.type}"
            )
        shape = _closed(self._input.shape, contestant.size, self._file)
        self._given = {self._input.name: _noise(shape, TYPES[self._input.type])}
        self._of_one_thread = None
        super().__init__(
            {MAP: lambda: session.run(None, self._given)},
            input_shape=shape,
            device=f"CPU, {threads} threads" if threads > 1 else "CPU, 1 thread",
            threads=threads,
            packages=("onnxruntime",),
        )

    def burst(self, pictures):
        if self._of_one_thread is None:
            self._of_one_thread, self._at_once = self._session(1), AtOnce(self.threads)
        self._at_once(lambda: self._of_one_thread.run(None, self._given), pictures)

    def _session(self, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        try:
            return onnxruntime.InferenceSession(self._file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a class of its own for each kind of failure, none of them common to all
            if type(error).__module__.split(".")[0] != "onnxruntime":
                raise
            raise ConfigError(f"{self._file}: not an ONNX file that ONNX Runtime loads ({error}).") from error


def _noise(shape, dtype):
    random = np.random.default_rng(0)
    return random.integers(0, 256, shape).astype(dtype) if dtype == "uint8" else random.normal(size=shape).astype(dtype)


def _closed(shape, size, file):
    """The shape of one picture: what the file leaves open becomes 1 for the batch, `size` for height and width."""
    batch, *rest = [length if isinstance(length, int) and length > 0 else None for length in shape] or [None]
    is_picture = len(rest) == 3 and (rest[0] in CHANNELS or rest[2] in CHANNELS)
    if None not in rest:
        return ((batch or 1), *rest)
    places = (1, 2) if is_picture and rest[0] in CHANNELS else (0, 1)
    if not is_picture or None in (length for place, length in enumerate(rest) if place not in places):
        raise ConfigError(f"{file}: its input must be a picture (batch, channels, height, width). Received: {shape}")
    if size is None:
        raise ConfigError(f"{file}: leaves the size of its input open: give it by --against-size. Received: {shape}")
    for place, length in zip(places, size, strict=True):
        rest[place] = rest[place] or length
    return ((batch or 1), *rest)
