"""The resize of pictures, in TensorFlow's graph."""

import tensorflow as tf


def resize_rgb(images, size: tuple[int, int]):
    """Resizes pictures as prediction and training do: by Pillow's rules, in two steps, each to whole numbers.

    A network may waver between two objects in a picture; then the fractions of a value that are rounded off here would
    decide, and a server would show another map than `keras_recnet.saliency`.

    Args:
        images: `(height, width, 3)` or `(batch, height, width, 3)`, RGB in 0…255, uint8 or float32.
        size: `(height, width)` to resize to, bilinear with antialiasing.

    Returns:
        Float32, whole numbers, Pillow's but for sums that are nearly a half: there the neighbour may come out.
    """
    size = tf.constant(size)
    given = tf.shape(images)[-3:-1]
    smaller = given - size
    # Pillow's order (from 13 on): each row first, unless that is much the more work
    columns_first = (smaller[0] > 0) & (smaller[0] > 2 * smaller[1])
    between = tf.where(tf.stack([columns_first, ~columns_first]), size, given)
    return _resize(_resize(images, between), size)


def _resize(images, size):
    # a half becomes the next number, as in Pillow; `tf.round` would take the even one
    return tf.floor(tf.image.resize(images, size, antialias=True) + 0.5)
