"""Image resizing in the TensorFlow graph."""

import tensorflow as tf


def resize_rgb(images, size: tuple[int, int]):
    """Resize images as Pillow does in prediction and training: in two steps, each rounded to integers.

    Where a network is undecided between two objects, a difference below one gray level can change the map, and a
    server's map would differ from that of `keras_recnet.saliency`.

    Args:
        images: `(height, width, 3)` or `(batch, height, width, 3)`, RGB in 0…255, uint8 or float32.
        size: `(height, width)` to resize to, bilinear with antialiasing.

    Returns:
        float32 integers, equal to Pillow's, except that sums close to a half may be rounded in the other direction.
    """
    size = tf.constant(size)
    original = tf.shape(images)[-3:-1]
    reduction = original - size
    # Pillow's order (since version 13): rows first, unless that is much more work
    columns_first = (reduction[0] > 0) & (reduction[0] > 2 * reduction[1])
    between = tf.where(tf.stack([columns_first, ~columns_first]), size, original)
    return _resize(_resize(images, between), size)


def _resize(images, size):
    # a half is rounded up, as in Pillow; `tf.round` rounds to even
    return tf.floor(tf.image.resize(images, size, antialias=True) + 0.5)
