"""Co-saliency maps of a group of any size in the memory of one image."""

from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np

from keras_recnet.inference.group_stream import GroupMap, GroupStream


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
        keep_features: the features of so many images are kept from the first passage, in a temporary file, so that they
            are encoded once.

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
    parts = Parts(model)
    with GroupStream(parts, orders=orders, seed=seed, keep=keep_features) as group:
        for image in read():
            if parts.has_state or group.count < keep_features:
                group.add(parts.encode(image))
            else:  # without a group branch the first passage has nothing to find out
                group.count += 1
        if not group.count:
            raise ValueError("A group needs an image. Received: images with none")
        group.finish()
        for index, image in enumerate(read()):
            yield group.decode(group.features(index) or parts.encode(image))


class Parts:
    """The three parts of an `RCAUNet` as compiled functions of NumPy arrays: a `group_stream.GroupEngine`.

    Args:
        model: an `RCAUNet`.
    """

    def __init__(self, model):
        self.size = tuple(model.image_size)
        self.has_state = model.cell is not None
        self._cell = model.cell
        self._encoder, self._step, self._decoder = model.encoder, model.step, model.decoder

    def encode(self, image):
        """An image `(height, width, 3)`, RGB in 0…255 → its features.

        Raises:
            ValueError: if the image has another size than the model's.
        """
        image = np.asarray(image)
        if image.shape != (*self.size, 3):
            raise ValueError(f"An image must have the shape {(*self.size, 3)}. Received: image.shape={image.shape}")
        return self._encoder.predict_on_batch(image[None].astype("float32"))

    def advance(self, x, state):
        """The state after an image of features `x`; `state` is None before the first."""
        if state is None:
            state = keras.ops.convert_to_numpy(self._cell.start(keras.ops.convert_to_tensor(x)))
        return self._step.predict_on_batch({"x": x, "state": state})

    def decode(self, features, state):
        """The map `(height, width)`, float32 in 0…1, of an image in its group."""
        inputs = features if state is None else {**features, "state": state}
        logits = self._decoder.predict_on_batch(inputs)[0, ..., 0].astype("float64")
        return np.exp(-np.logaddexp(0, -logits)).astype("float32")
