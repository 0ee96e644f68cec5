"""Co-saliency of a group image by image, whatever runs the network: NumPy only."""

import tempfile
import threading
from typing import NamedTuple, Protocol

import numpy as np

Features = dict[str, np.ndarray]


class GroupMap(NamedTuple):
    """The map of one image of a group.

    Attributes:
        saliency: `(height, width)`, float32, 0…1.
        variance: the variance over the orders of each pixel, `(height, width)`, float32; None for a single order.
    """

    saliency: np.ndarray
    variance: np.ndarray | None


class GroupEngine(Protocol):
    """The parts of a network of groups, each on one image.

    Attributes:
        size: `(height, width)` of its images.
        has_state: False for a network without a group branch.
    """

    size: tuple[int, int]
    has_state: bool

    def encode(self, rgb: np.ndarray) -> Features:
        """An image, uint8 `(height, width, 3)` → its features, each `(1, h, w, C)`; `"x"` goes into the state."""

    def advance(self, x: np.ndarray, state: np.ndarray | None) -> np.ndarray:
        """The group's state after one more image; None before the first."""

    def decode(self, features: Features, state: np.ndarray | None) -> np.ndarray:
        """The map `(height, width)`, float32 in 0…1, of an image in its group."""


class GroupStream:
    """A group on its way through a network: images are added one after another, then each is decoded.

    It holds the group's state, not the images. The features of the first `keep` images lie in a temporary file, so that
    they need not be encoded twice; memory is that of one image, but for `orders` above 1, which need X of every image
    (0.15 MB at 14×14×192).

    Args:
        engine: what runs the network.
        orders: K. The group is walked through in K orders, the given one and K - 1 random ones. Maps are decoded from
            the mean of the K final states, and their variance is that of the K maps of the single states.
        seed: of the random orders.
        keep: how many images' features are kept; an error of the disk ends the keeping, nothing else.

    Example:
        >>> with GroupStream(engine, keep=64) as group:
        ...     for image in images:
        ...         group.add(engine.encode(image))
        ...     group.finish()
        ...     maps = [group.decode(group.features(n) or engine.encode(image)) for n, image in enumerate(images)]
    """

    def __init__(self, engine: GroupEngine, *, orders: int = 1, seed: int = 0, keep: int = 0):
        if not (isinstance(orders, int) and orders >= 1):
            raise ValueError(f"`orders` must be a whole number from 1 on. Received: orders={orders!r}")
        self._engine, self._orders, self._seed = engine, orders, seed
        self._kept = _Kept(keep)
        self._xs, self._states, self._mean = [], [], None
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._kept.close()

    def add(self, features: Features) -> None:
        """Takes the next image into the group's state."""
        self._kept.add(features)
        self.count += 1
        if not self._engine.has_state:
            return
        if self._orders > 1:
            self._xs.append(features["x"])
        else:
            self._states = [self._engine.advance(features["x"], *(self._states or [None]))]

    def features(self, index: int) -> Features | None:
        """The features of the image that was added as number `index`, if they are kept."""
        return self._kept.get(index)

    def finish(self) -> None:
        """Ends the adding: computes the state that all maps are decoded with."""
        if self._xs:
            self._states = [self._walk(order) for order in group_orders(self.count, self._orders, self._seed)]
            self._xs = []
        if self._states:
            self._mean = np.mean(self._states, axis=0, dtype="float64").astype("float32")

    def decode(self, features: Features) -> GroupMap:
        """The map of an image of the group, after `finish`; threads may call it at the same time."""
        saliency = self._engine.decode(features, self._mean)
        if self._orders == 1:
            return GroupMap(saliency, None)
        maps = [self._engine.decode(features, state) for state in self._states]
        # without a group branch there is nothing that the order could change
        variance = np.var(maps, axis=0, dtype="float64").astype("float32") if maps else np.zeros_like(saliency)
        return GroupMap(saliency, variance)

    def _walk(self, order):
        state = None
        for index in order:
            state = self._engine.advance(self._xs[index], state)
        return state


def group_orders(count: int, orders: int, seed: int = 0) -> list[np.ndarray]:
    """The given order of `count` images and `orders - 1` random ones, as arrays of indices."""
    random = np.random.default_rng(seed)
    return [np.arange(count), *(random.permutation(count) for _ in range(orders - 1))]


class _Kept:
    """The features of a group's first images, in a temporary file that has no name."""

    def __init__(self, most):
        self._left, self._count, self._file, self._shapes = most, 0, None, {}
        self._lock = threading.Lock()

    def add(self, features):
        if self._left <= 0:
            return
        self._left -= 1
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the group)
                self._shapes = {name: array.shape for name, array in features.items()}
            for name in self._shapes:
                self._file.write(np.ascontiguousarray(features[name], "float32"))
            self._file.flush()
        except OSError:  # no room for what only saves time
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
