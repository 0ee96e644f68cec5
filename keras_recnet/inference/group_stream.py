"""Co-saliency maps of a group, one image at a time, with any engine. Uses NumPy only."""

import errno
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

ENCODE, STEP, DECODE = "encode", "step", "decode"  # names of the parts
Tensors = dict[str, np.ndarray]


class GroupMap(NamedTuple):
    """The map of one image of a group.

    Attributes:
        saliency: `(height, width)`, float32, 0…1.
        variance: variance of each pixel over the orders, `(height, width)`, float32; None for a single order.
    """

    saliency: np.ndarray
    variance: np.ndarray | None


class GroupEngine(Protocol):
    """The parts of a co-saliency network; each part processes one image.

    Attributes:
        size: `(height, width)` of the input images.
        step_features: names of the features that `advance` uses.
        state_shapes: names and shapes of the tensors of the group's state, which are 0 before the first image; empty
            for a network without a group branch.
    """

    size: tuple[int, int]
    step_features: tuple[str, ...]
    state_shapes: dict[str, tuple[int, ...]]

    def encode(self, rgb: np.ndarray) -> Tensors:
        """Compute the features of an image (uint8 `(H, W, 3)`), float32 arrays `(1, …)` by name."""

    def advance(self, features: Tensors, state: Tensors) -> Tensors:
        """Compute the group's state after one more image."""

    def decode(self, features: Tensors, state: Tensors) -> np.ndarray:
        """Compute the map `(H, W)`, float32 in 0…1, of an image in its group."""


class PartsEngine:
    """Base of the engines: passes tensors to the parts by name.

    Subclasses call `_set_parts` and implement `encode` and `_run`.
    """

    def _set_parts(self, decode_inputs: Iterable[str], step_inputs: Mapping[str, Sequence[int]], state: Iterable[str]):
        """Set the inputs of the parts.

        Args:
            decode_inputs: names of the inputs of `decode`.
            step_inputs: names and shapes `(1, …)` of the inputs of `step`; empty without a group branch.
            state: names of the outputs of `step`, which are the state.
        """
        self._decode_inputs = tuple(decode_inputs)
        self.state_shapes = {name: tuple(step_inputs[name]) for name in state}
        self.step_features = tuple(sorted(set(step_inputs) - set(self.state_shapes)))

    def _run(self, part: str, tensors: Tensors) -> Tensors:
        """Run `step`, or `decode` with the output `saliency` `(1, H, W, 1)`."""
        raise NotImplementedError

    def advance(self, features: Tensors, state: Tensors) -> Tensors:
        """Compute the state of the group after an image."""
        return self._run(STEP, {**{name: features[name] for name in self.step_features}, **state})

    def decode(self, features: Tensors, state: Tensors) -> np.ndarray:
        """Compute the map (float32 `(H, W)`) of an image in its group."""
        tensors = {**features, **state}
        return self._run(DECODE, {name: tensors[name] for name in self._decode_inputs})["saliency"][0, ..., 0]


def empty_state(engine: GroupEngine) -> Tensors:
    """Return the state before the first image of a group."""
    return {name: np.zeros(shape, "float32") for name, shape in engine.state_shapes.items()}


class GroupStream:
    """The state of a group: it is updated image by image, then each image is decoded with the final state.

    Only one image is in memory at a time, but `orders` above 1 needs the features of every image that update the state.
    The features of the first `keep` images are stored in a temporary file, so that these images are encoded only once.

    Args:
        engine: runs the network.
        orders: K. The state is computed for K orders of the images, the given one and K - 1 random ones. Maps are
            decoded from the mean of the K final states; the variance is over the K maps, one from each state.
        seed: seed of the random orders.
        keep: number of images whose features are stored. If the disk is full, fewer are stored.

    Raises:
        ValueError: if `orders` is less than 1.

    Example:
        >>> with GroupStream(engine, keep=64) as group:
        ...     for image in images:
        ...         group.add(engine.encode(image))
        ...     group.finish()
        ...     maps = [group.decode(group.features(n) or engine.encode(image)) for n, image in enumerate(images)]
    """

    def __init__(self, engine: GroupEngine, *, orders: int = 1, seed: int = 0, keep: int = 0):
        if not (isinstance(orders, int) and orders >= 1):
            raise ValueError(f"`orders` must be a positive integer. Received: orders={orders!r}")
        self._engine, self._orders, self._seed = engine, orders, seed
        self._stored = _FeatureFile(keep)
        self._for_steps, self._states, self._mean = [], [empty_state(engine)], empty_state(engine)
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stored.close()

    def add(self, features: Tensors) -> None:
        """Add an image to the group."""
        self._stored.add(features)
        self.count += 1
        if not self._engine.state_shapes:
            return
        if self._orders > 1:
            self._for_steps.append({name: features[name] for name in self._engine.step_features})
        else:
            self._states = [self._engine.advance(features, self._states[0])]

    def features(self, index: int) -> Tensors | None:
        """Return the features of the image with this index in the order of `add`, or None if not stored."""
        return self._stored.get(index)

    def finish(self) -> None:
        """Compute the state for decoding all maps; call it after the last `add`."""
        if self._for_steps:
            self._states = [self._final_state(order) for order in group_orders(self.count, self._orders, self._seed)]
            self._for_steps = []
        self._mean = {
            name: np.mean([state[name] for state in self._states], axis=0, dtype="float64").astype("float32")
            for name in self._engine.state_shapes
        }

    def decode(self, features: Tensors) -> GroupMap:
        """Compute the map of an image of the group, after `finish`. May be called from several threads at once."""
        saliency = self._engine.decode(features, self._mean)
        if self._orders == 1:
            return GroupMap(saliency, None)
        maps = [self._engine.decode(features, state) for state in self._states]
        return GroupMap(saliency, np.var(maps, axis=0, dtype="float64").astype("float32"))

    def _final_state(self, order):
        state = empty_state(self._engine)
        for index in order:
            state = self._engine.advance(self._for_steps[index], state)
        return state


def group_orders(count: int, orders: int, seed: int = 0) -> list[np.ndarray]:
    """Return the given order of `count` images and `orders - 1` random ones, as arrays of indices."""
    random = np.random.default_rng(seed)
    return [np.arange(count), *(random.permutation(count) for _ in range(orders - 1))]


class _FeatureFile:
    """The features of the first images of a group, in an unnamed temporary file."""

    def __init__(self, capacity):
        self._left, self._count, self._file, self._shapes = capacity, 0, None, {}
        self._lock = threading.Lock()

    def add(self, features):
        if self._left <= 0:
            return
        self._left -= 1
        try:
            if self._file is None:
                # without a buffer, which could not be written later
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed with the group)
                self._shapes = {name: array.shape for name, array in features.items()}
            for name in self._shapes:
                array = np.ascontiguousarray(features[name], "float32")
                if self._file.write(array) < array.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:  # if the disk is full, the other images are encoded again later
            self._left = 0
            return
        self._count += 1

    def get(self, index):
        if index >= self._count:
            return None
        sizes = {name: int(np.prod(shape)) for name, shape in self._shapes.items()}
        with self._lock:
            self._file.seek(4 * sum(sizes.values()) * index)
            return {
                name: np.frombuffer(self._file.read(4 * size), "float32").reshape(self._shapes[name])
                for name, size in sizes.items()
            }

    def close(self):
        if self._file is not None:
            self._file.close()
