"""Engines: what runs the network on one picture of its own size. Neither is imported before it is asked for."""

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


class Interpreters:
    """Interpreters of one LiteRT file, on the CPU through XNNPACK, that threads borrow.

    As many as there are cores for their threads are lent at a time; more callers wait. Those after the first are made
    when they are needed.

    Args:
        file: the `.tflite` file.
        threads: for the network's operations in each.
        prepare: makes of a new interpreter what is lent, and refuses one that does not fit with a `ValueError`.
    """

    def __init__(self, file: Path, *, threads: int, prepare: Callable):
        self._file, self._threads, self._prepare = file, threads, prepare
        self.idle = [self._load()]
        self._free = threading.Semaphore(max(1, cores() // threads))
        self.device = "CPU, 1 thread" if threads == 1 else f"CPU, {threads} threads"

    @contextlib.contextmanager
    def borrow(self) -> Iterator:
        """Lends one, as `prepare` made it."""
        with self._free:
            try:
                interpreter = self.idle.pop()  # a list's pop and append are atomic
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
                f"{self._file}: the LiteRT engine needs ai-edge-litert: pip install ai-edge-litert. Where there is "
                f"none for your system, use the Keras engine (--engine keras)."
            ) from error
        try:
            interpreter = Interpreter(str(self._file), num_threads=self._threads)
            interpreter.allocate_tensors()
            return self._prepare(interpreter)
        except (RuntimeError, ValueError) as error:
            raise PresetError(f"{self._file}: not the LiteRT file of such a network ({error}).") from error


class LiteRTEngine:
    """The shipped LiteRT file without TensorFlow and Keras. Calls from several threads run beside each other.

    Args:
        file: the `.tflite` file, as `keras_recnet.export.litert.converting` writes it, with float32 or uint8 images.
        threads: for the network's operations on one picture. On n cores up to n // `threads` pictures run at once:
            all cores give the shortest wait for one picture, one thread gives the most pictures a second.
    """

    name = "litert"

    def __init__(self, file: Path, *, threads: int):
        self._file, self.threads = file, threads
        self._interpreters = Interpreters(file, threads=threads, prepare=self._checked)
        self.device = self._interpreters.device

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """The map, float32 `(H, W)`, of `rgb`, uint8 `(H, W, 3)` of the engine's size."""
        image = rgb[None].astype(self._dtype, copy=False)
        with self._interpreters.borrow() as interpreter:
            interpreter.set_tensor(self._input, image)
            interpreter.invoke()
            return interpreter.get_tensor(self._output)[0, ..., 0]

    def of_one_thread(self) -> "LiteRTEngine":
        """The same network for many pictures at once: one thread a picture, as many pictures as cores."""
        return self if self.threads == 1 else LiteRTEngine(self._file, threads=1)

    def _checked(self, interpreter):
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        batch, height, width, channels = inputs["shape"].tolist()
        if (batch, channels) != (1, 3) or outputs["shape"].tolist() != [1, height, width, 1]:
            raise ValueError(f"its input is {inputs['shape']}, its output {outputs['shape']}")
        self.size = (height, width)
        if inputs["dtype"] not in (np.float32, np.uint8):
            raise ValueError(f"its input is of {np.dtype(inputs['dtype'])}, not of float32 or uint8")
        self._input, self._output, self._dtype = inputs["index"], outputs["index"], inputs["dtype"]
        return interpreter


class KerasEngine:
    """The Keras model on any of Keras' backends and whatever device it finds.

    Args:
        preset: with `model.weights.h5` in it.
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
        """The map, float32 `(H, W)`, of `rgb`, uint8 `(H, W, 3)` of the engine's size. Threads take turns."""
        with self._lock:
            return self._inference.predict_on_batch(rgb[None].astype(np.float32))[0, ..., 0]

    def attention(self, rgb: np.ndarray, pixel: tuple[int, int]) -> np.ndarray:
        """What `pixel` (row, column) of `rgb` attends to, `(h, w)`, at the attention's own resolution."""
        with self._lock:
            return self.model.attention_map(rgb, pixel)


def keras_model(preset: presets.Preset, size: tuple[int, int] | None = None):
    """Builds the model of a preset, for another size than its own if one is given.

    Raises:
        MissingExtraError: if Keras or its backend is not installed.
        PresetError: if this version has no such model, or it cannot have this size.
    """
    try:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow talks at its start
        import keras  # noqa: F401  # to be missed here, whoever has loaded our models before

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
    """Keras' backend, and the device of the best kind that it found."""
    import keras

    try:
        device = ", ".join(keras.distribution.list_devices())
    except AttributeError:  # the torch backend has no such list
        device = "its default device"
    return f"{keras.backend.backend()} on {device}"
