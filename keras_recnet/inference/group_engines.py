"""Engines for groups: what encodes, advances and decodes one image. Neither is imported before it is asked for."""

import threading
from pathlib import Path

import numpy as np

from keras_recnet import presets
from keras_recnet.inference.engines import Interpreters, keras_device, keras_model

_ENCODE, _STEP, _DECODE = "encode", "step", "decode"


class LiteRTGroupEngine:
    """The shipped LiteRT file of an `RCAUNet`, without TensorFlow and Keras.

    Calls from several threads run beside each other. The state starts as the first image's X, with channels of zeros
    behind it where the state has more (the mean counts its images in one).

    Args:
        file: the `.tflite` file, as `keras_recnet.export.litert.converting` writes it, with float32 or uint8 images.
        threads: for the network's operations on one image; on n cores up to n // `threads` images run at once.
    """

    name = "litert"

    def __init__(self, file: Path, *, threads: int):
        self.threads = threads
        self._interpreters = Interpreters(file, threads=threads, prepare=self._runners)
        self.device = self._interpreters.device

    def encode(self, rgb: np.ndarray) -> dict[str, np.ndarray]:
        """An image, uint8 `(H, W, 3)` of the engine's size → its features, each `(1, h, w, C)`."""
        return self._run(_ENCODE, image=rgb[None].astype(self._dtype, copy=False))

    def advance(self, x: np.ndarray, state: np.ndarray | None) -> np.ndarray:
        """The state after an image of features `x`; `state` is None before the first."""
        if state is None:
            state = np.zeros(self._state_shape, np.float32)
            state[..., : x.shape[-1]] = x
        return self._run(_STEP, x=x, state=state)["state"]

    def decode(self, features: dict[str, np.ndarray], state: np.ndarray | None) -> np.ndarray:
        """The map, float32 `(H, W)`, of an image in its group."""
        group = {} if state is None else {"state": state}
        return self._run(_DECODE, **features, **group)["saliency"][0, ..., 0]

    def _run(self, part, **tensors):
        with self._interpreters.borrow() as runners:
            return runners[part](**tensors)

    def _runners(self, interpreter):
        names = set(interpreter.get_signature_list())
        if not names >= {_ENCODE, _DECODE}:
            raise ValueError(f"a network of groups has the signatures encode, step and decode, it has {sorted(names)}")
        runners = {name: interpreter.get_signature_runner(name) for name in names}
        image = runners[_ENCODE].get_input_details()["image"]
        if image["dtype"] not in (np.float32, np.uint8):
            raise ValueError(f"its images are of {np.dtype(image['dtype'])}, not of float32 or uint8")
        _, *size, _ = image["shape"].tolist()
        self.size, self._dtype = tuple(size), image["dtype"]
        self.has_state = _STEP in names
        if self.has_state:
            self._state_shape = runners[_STEP].get_input_details()["state"]["shape"].tolist()
        return runners


class KerasGroupEngine:
    """The parts of an `RCAUNet` on any of Keras' backends. Threads take turns.

    Args:
        preset: with `model.weights.h5` in it.
        size: `(height, width)` to build the network for; None: the preset's own.
    """

    name = "keras"

    def __init__(self, preset: presets.Preset, *, size: tuple[int, int] | None = None):
        self.model = keras_model(preset, size)
        from keras_recnet.models.streaming import Parts

        self._parts = Parts(self.model)
        self.size, self.has_state = self._parts.size, self._parts.has_state
        self.device = keras_device()
        self._lock = threading.Lock()

    def encode(self, rgb: np.ndarray) -> dict[str, np.ndarray]:
        """As `LiteRTGroupEngine.encode`."""
        with self._lock:
            return self._parts.encode(rgb)

    def advance(self, x: np.ndarray, state: np.ndarray | None) -> np.ndarray:
        """As `LiteRTGroupEngine.advance`."""
        with self._lock:
            return self._parts.advance(x, state)

    def decode(self, features: dict[str, np.ndarray], state: np.ndarray | None) -> np.ndarray:
        """As `LiteRTGroupEngine.decode`."""
        with self._lock:
            return self._parts.decode(features, state)
