"""Co-saliency maps of a group of any size in the memory of one image."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np


class GroupMap(NamedTuple):
    """The map of one image of a group.

    Attributes:
        saliency: `(height, width)`, float32, 0…1.
        variance: the variance over the orders of each pixel, `(height, width)`, float32; None for a single order.
    """

    saliency: np.ndarray
    variance: np.ndarray | None


def stream(
    model, images: Iterable | Callable[[], Iterable], *, orders: int = 1, seed: int = 0, keep_features: int = 0
) -> Iterator[GroupMap]:
    """Co-saliency maps of a group, one after another, equal to those of the whole group in one call.

    The images are gone through twice: first each is encoded and taken into the group's state, then each is decoded
    with the final state. No more than one image is held at a time, however many there are.

    The order of the images matters to a recurrent unit. With `orders=K` the group is walked through in K orders, the
    given one and K - 1 random ones, and the maps are decoded from the mean of the K final states; beside each map
    stands the variance of the K maps of the single states. Orders need the features X of all images at once (0.15 MB
    an image at 14×14×192), and K + 1 decodings of each.

    Args:
        model: an `RCAUNet`.
        images: `(height, width, 3)` arrays of the model's `image_size`, RGB in 0…255: a list, a lazy sequence, or a
            function that gives a new iterator each time it is called.
        orders: K.
        seed: of the random orders.
        keep_features: the features of so many images are kept from the first passage, so that they are encoded once.

    Yields:
        A `GroupMap` for each image, in the order of `images`.

    Raises:
        ValueError: if there is no image, one has another size, `images` can be read only once, or `orders` is less
            than 1.

    Example:
        >>> paths = sorted(folder.glob("*.jpg"))
        >>> for path, (saliency, _) in zip(paths, stream(model, lambda: map(read, paths)), strict=True):
        ...     write(path, saliency)

    Reference:
        RCAU paper, Section 2.3; the orders are ours.
    """
    if not (isinstance(orders, int) and orders >= 1):
        raise ValueError(f"`orders` must be a whole number from 1 on. Received: orders={orders!r}")
    if not callable(images) and iter(images) is images:
        raise ValueError(
            f"`images` is gone through twice: give a sequence, or a function that returns a new iterator. Received: "
            f"images={images!r}"
        )
    return _stream(model, images if callable(images) else lambda: iter(images), orders, seed, keep_features)


def _stream(model, read, orders, seed, keep_features):
    network = _Network(model)
    kept, states = [], None
    if orders > 1:
        xs = []
        for index, image in enumerate(read()):
            features = network.encode(image)
            xs.append(features["x"])
            if index < keep_features:
                kept.append(features)
        count = len(xs)
        if network.cell is not None and count:
            states = [network.walk(xs[index] for index in order) for order in group_orders(count, orders, seed)]
        del xs
    else:
        count, state = 0, None
        for image in read():
            if network.cell is None and count >= keep_features:
                count += 1  # without a group branch the first passage has nothing to find out
                continue
            features = network.encode(image)
            if network.cell is not None:
                state = network.advance(features["x"], state)
            if count < keep_features:
                kept.append(features)
            count += 1
        states = None if state is None else [state]
    if not count:
        raise ValueError("A group needs an image. Received: images with none")
    for index, image in enumerate(read()):
        features = kept[index] if index < len(kept) else network.encode(image)
        yield _decoded(network, features, states, orders)


def group_orders(count: int, orders: int, seed: int = 0) -> list[np.ndarray]:
    """The given order of `count` images and `orders - 1` random ones, as arrays of indices."""
    random = np.random.default_rng(seed)
    return [np.arange(count), *(random.permutation(count) for _ in range(orders - 1))]


def _decoded(network, features, states, orders):
    if states is None:
        saliency = network.decode(features, None)
        return GroupMap(saliency, np.zeros_like(saliency) if orders > 1 else None)
    saliency = network.decode(features, np.mean(states, axis=0, dtype="float64").astype("float32"))
    if orders == 1:
        return GroupMap(saliency, None)
    maps = [network.decode(features, state) for state in states]
    return GroupMap(saliency, np.var(maps, axis=0, dtype="float64").astype("float32"))


class _Network:
    """The three parts of a model as compiled functions of NumPy arrays."""

    def __init__(self, model):
        self.image_shape = (*model.image_size, 3)
        self.cell = model.cell
        self.encoder, self.step, self.decoder = model.encoder, model.step, model.decoder

    def encode(self, image):
        image = np.asarray(image)
        if image.shape != self.image_shape:
            raise ValueError(f"An image must have the shape {self.image_shape}. Received: image.shape={image.shape}")
        return self.encoder.predict_on_batch(image[None].astype("float32"))

    def advance(self, x, state):
        if state is None:
            state = keras.ops.convert_to_numpy(self.cell.start(keras.ops.convert_to_tensor(x)))
        return self.step.predict_on_batch({"x": x, "state": state})

    def walk(self, xs):
        state = None
        for x in xs:
            state = self.advance(x, state)
        return state

    def decode(self, features, state):
        inputs = features if state is None else {**features, "state": state}
        logits = self.decoder.predict_on_batch(inputs)[0, ..., 0].astype("float64")
        return (1 / (1 + np.exp(-logits))).astype("float32")
