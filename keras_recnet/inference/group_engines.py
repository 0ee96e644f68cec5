"""Engines that run a co-saliency network on one image at a time, and `stream`, which runs a model in memory."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from keras_recnet import presets
from keras_recnet.inference.engines import InterpreterPool, keras_device, keras_model
from keras_recnet.inference.group_stream import DECODE, ENCODE, STEP, GroupMap, GroupStream, PartsEngine, Tensors


class LiteRTGroupEngine(PartsEngine):
    """Runs the LiteRT file of an `RCAUNet`, without TensorFlow and Keras.

    Several threads may call an engine at once.

    Args:
        file: a `.tflite` file written by `keras_recnet.export.litert.converting`, with float32 or uint8 input.
        threads: number of threads per image; cores // `threads` images run in parallel.
    """

    name = "litert"

    def __init__(self, file: Path, *, threads: int):
        self.threads = threads
        self._interpreters = InterpreterPool(file, threads=threads, prepare=self._signature_runners)
        self.device = self._interpreters.device

    def encode(self, rgb: np.ndarray) -> Tensors:
        """Compute the features of an image (uint8 `(H, W, 3)`) of the engine's size."""
        return self._run(ENCODE, {"image": rgb[None].astype(self._dtype, copy=False)})

    def _run(self, part, tensors):
        with self._interpreters.borrow() as runners:
            return runners[part](**tensors)

    def _signature_runners(self, interpreter):
        names = set(interpreter.get_signature_list())
        if not names >= {ENCODE, DECODE}:
            raise ValueError(f"expected the signatures encode, step and decode, found {sorted(names)}")
        runners = {name: interpreter.get_signature_runner(name) for name in names}
        image = runners[ENCODE].get_input_details()["image"]
        if image["dtype"] not in (np.float32, np.uint8):
            raise ValueError(f"its input is {np.dtype(image['dtype'])}, not float32 or uint8")
        _, *size, _ = image["shape"].tolist()
        self.size, self._dtype = tuple(size), image["dtype"]
        inputs, state = {}, ()
        if STEP in names:
            inputs, state = runners[STEP].get_input_details(), runners[STEP].get_output_details()
        shapes = {name: details["shape"].tolist() for name, details in inputs.items()}
        self._set_parts(runners[DECODE].get_input_details(), shapes, state)
        return runners


class KerasGroupEngine(PartsEngine):
    """Runs an `RCAUNet` on any Keras backend, one thread at a time.

    Args:
        source: a preset with `model.weights.h5`, or an `RCAUNet`.
        size: `(height, width)` to build a preset's network for; None: the preset's own.
    """

    name = "keras"

    def __init__(self, source, *, size: tuple[int, int] | None = None):
        self.model = keras_model(source, size) if isinstance(source, presets.Preset) else source
        self.size = tuple(self.model.image_size)
        self.device = keras_device()
        self._parts = {STEP: self.model.step, DECODE: self.model.decoder}
        step = self.model.step
        shapes = {} if step is None else {name: (1, *tensor.shape[1:]) for name, tensor in step.input.items()}
        self._set_parts(self.model.decoder.input, shapes, () if step is None else step.output)
        self._lock = threading.Lock()

    def encode(self, rgb: np.ndarray) -> Tensors:
        """Compute features as `LiteRTGroupEngine.encode` does; RGB in 0…255 of any type.

        Raises:
            ValueError: if the image does not have the engine's size.
        """
        rgb = np.asarray(rgb)
        if rgb.shape != (*self.size, 3):
            raise ValueError(f"An image must have the shape {(*self.size, 3)}. Received: image.shape={rgb.shape}")
        with self._lock:
            return self.model.encoder.predict_on_batch(rgb[None].astype("float32"))

    def _run(self, part, tensors):
        with self._lock:
            outputs = self._parts[part].predict_on_batch(tensors)
        if part == STEP:
            return outputs
        return {"saliency": np.exp(-np.logaddexp(0, -outputs.astype("float64"))).astype("float32")}


def stream(
    model, images: Iterable | Callable[[], Iterable], *, orders: int = 1, seed: int = 0, keep_features: int = 0
) -> Iterator[GroupMap]:
    """Compute a group's co-saliency maps one image at a time; they equal those of a call on the whole group.

    The images are read twice: first each image is encoded and updates the group's state, then each is decoded with the
    final state. One image is in memory at a time, whatever the size of the group.

    Args:
        model: an `RCAUNet`.
        images: `(height, width, 3)` arrays of the model's `image_size`, RGB in 0…255: a sequence, or a function that
            returns a new iterator for each pass.
        orders: number of orders over which the state is averaged, see `GroupStream`.
        seed: seed of the random orders.
        keep_features: number of images whose features are kept in a temporary file, to encode these images only once.

    Yields:
        A `GroupMap` per image, in the order of `images`.

    Raises:
        ValueError: if there is no image, an image has the wrong size, `images` is an iterator, or `orders` is less
            than 1.

    Reference:
        RCAU paper, Section 2.3. Averaging over orders is our addition.
    """
    if not (isinstance(orders, int) and orders >= 1):
        raise ValueError(f"`orders` must be a positive integer. Received: orders={orders!r}")
    if not callable(images) and iter(images) is images:
        raise ValueError(
            f"`images` is read twice: pass a sequence, or a function that returns a new iterator. Received: "
            f"images={images!r}"
        )
    return _stream(model, images if callable(images) else lambda: iter(images), orders, seed, keep_features)


def _stream(model, read, orders, seed, keep_features):
    engine = KerasGroupEngine(model)
    with GroupStream(engine, orders=orders, seed=seed, keep=keep_features) as group:
        for image in read():
            if engine.state_shapes or group.count < keep_features:
                group.add(engine.encode(image))
            else:  # without a group branch, the first pass has nothing to compute
                group.count += 1
        if not group.count:
            raise ValueError("A group needs at least one image. Received: no images")
        group.finish()
        for index, image in enumerate(read()):
            yield group.decode(group.features(index) or engine.encode(image))
