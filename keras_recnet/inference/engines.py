"""Engines that run a saliency network on one image. LiteRT and Keras are imported only when they are used."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_recnet import presets
from keras_recnet.errors import MissingExtraError, PresetError
from keras_recnet.parallel import cores

_KERAS_EXTRA = frozenset(("keras", "tensorflow", "jax", "torch", "h5py"))


class InterpreterPool:
    """LiteRT interpreters of one file, shared by threads. They run on the CPU with XNNPACK.

    At most cores // `threads` interpreters are in use at a time; other callers wait. All but the first are created
    on demand.

    Args:
        file: the `.tflite` file.
        threads: number of threads per interpreter.
        prepare: converts a new interpreter into the object that `borrow` yields; raises a `ValueError` if the
            interpreter's tensors are not those of the expected network.
    """

    def __init__(self, file: Path, *, threads: int, prepare: Callable):
        self._file, self._threads, self._prepare = file, threads, prepare
        self.idle = [self._load()]
        self._free = threading.Semaphore(max(1, cores() // threads))
        self.device = "CPU, 1 thread" if threads == 1 else f"CPU, {threads} threads"

    @contextlib.contextmanager
    def borrow(self) -> Iterator:
        """Yield an interpreter, as returned by `prepare`, for exclusive use."""
        with self._free:
            try:
                interpreter = self.idle.pop()  # list.pop and list.append are atomic
            except IndexError:
                interpreter = self._load()
            try:
                yield interpreter
            finally:
                self.idle.append(interpreter)

    def _load(self):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"{self._file}: the LiteRT engine needs ai-edge-litert: pip install ai-edge-litert. If it is not "
                f"available for your system, use the Keras engine (--engine keras)."
            ) from error
        try:
            interpreter = Interpreter(str(self._file), num_threads=self._threads)
            interpreter.allocate_tensors()
            return self._prepare(interpreter)
        except (RuntimeError, ValueError) as error:
            raise PresetError(f"{self._file}: not a LiteRT file of the expected kind of network ({error}).") from error


class LiteRTEngine:
    """Runs a LiteRT file, without TensorFlow and Keras. Several threads may call it at once.

    Args:
        file: a `.tflite` file written by `keras_recnet.export.litert.converting`, with float32 or uint8 input.
        threads: number of threads per image; cores // `threads` images run in parallel. One thread per image gives
            the highest throughput, all cores for one image the lowest latency.
    """

    name = "litert"

    def __init__(self, file: Path, *, threads: int):
        self._file, self.threads = file, threads
        self._interpreters = InterpreterPool(file, threads=threads, prepare=self._check)
        self.device = self._interpreters.device

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Compute the map (float32 `(H, W)`) of an image (uint8 `(H, W, 3)`) of the engine's size."""
        image = rgb[None].astype(self._dtype, copy=False)
        with self._interpreters.borrow() as interpreter:
            interpreter.set_tensor(self._input, image)
            interpreter.invoke()
            return interpreter.get_tensor(self._output)[0, ..., 0]

    def single_threaded(self) -> "LiteRTEngine":
        """Return an engine that runs as many images in parallel as there are cores, with one thread per image."""
        return self if self.threads == 1 else LiteRTEngine(self._file, threads=1)

    def _check(self, interpreter):
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        batch, height, width, channels = inputs["shape"].tolist()
        if (batch, channels) != (1, 3) or outputs["shape"].tolist() != [1, height, width, 1]:
            raise ValueError(f"its input is {inputs['shape']}, its output {outputs['shape']}")
        self.size = (height, width)
        if inputs["dtype"] not in (np.float32, np.uint8):
            raise ValueError(f"its input is {np.dtype(inputs['dtype'])}, not float32 or uint8")
        self._input, self._output, self._dtype = inputs["index"], outputs["index"], inputs["dtype"]
        return interpreter


class KerasEngine:
    """Runs the Keras model of a preset, on any Keras backend and its default device.

    Args:
        preset: a preset with `model.weights.h5`.
        size: `(height, width)` to build the network for; None: the preset's own.
        fusion: as in `RecNet.to_inference`; None: the preset's own.
    """

    name = "keras"

    def __init__(self, preset: presets.Preset, *, size: tuple[int, int] | None = None, fusion: str | None = None):
        self.model = keras_model(preset, size)
        try:
            self._inference = self.model.to_inference(fusion)
        except ValueError as error:
            raise PresetError(f"{preset.folder}: {error}") from error
        self.size = tuple(self.model.image_size)
        self.device = keras_device()
        self._lock = threading.Lock()

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Compute a map as `LiteRTEngine` does; one thread at a time."""
        with self._lock:
            return self._inference.predict_on_batch(rgb[None].astype(np.float32))[0, ..., 0]

    def attention(self, rgb: np.ndarray, pixel: tuple[int, int]) -> np.ndarray:
        """Compute the attention weights `(h, w)` of `pixel` (row, column), at the attention's resolution."""
        with self._lock:
            return self.model.attention_map(rgb, pixel)


def keras_model(preset: presets.Preset, size: tuple[int, int] | None = None):
    """Build the Keras model of a preset, optionally for another input size.

    Raises:
        MissingExtraError: if Keras or its backend is not installed.
        PresetError: if this version cannot load the preset, or cannot build its network for this size.
    """
    try:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's messages at start
        import keras  # noqa: F401  # detects a missing Keras even if our models are imported already

        from keras_recnet import models
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _KERAS_EXTRA:
            raise
        raise MissingExtraError(
            f'The Keras engine needs Keras and one of its backends: pip install "keras-recnet[tensorflow]". '
            f"Missing: {error.name}"
        ) from error
    try:
        return models.from_preset(preset.folder, **({"image_size": list(size)} if size else {}))
    except ValueError as error:
        raise PresetError(f"{preset.folder}: {error}") from error


def keras_device() -> str:
    """Return the name of the Keras backend and its devices."""
    import keras

    try:
        device = ", ".join(keras.distribution.list_devices())
    except AttributeError:  # not available with the torch backend
        device = "its default device"
    return f"{keras.backend.backend()} on {device}"
