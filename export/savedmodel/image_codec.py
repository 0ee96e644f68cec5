"""Decode JPEG and PNG files and encode maps as PNG files in the TensorFlow graph; bad files do not fail the batch."""

import tensorflow as tf

from keras_recnet.export.savedmodel.resizing import resize_rgb

OK, UNDECODABLE, TOO_LARGE = 0, 1, 2
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 24  # bytes up to the end of width and height
_PARALLEL = 2  # images in parallel: each can take a few hundred megabytes


def decode(files, size: tuple[int, int], max_pixels: int):
    """Decode and resize a batch of image files.

    Grayscale images are converted to RGB, 16-bit channels are reduced to their upper 8 bits, and transparent images are
    composited on white. The EXIF rotation is not applied, since TensorFlow's decoders do not read it.

    Args:
        files: string `(batch,)`, the bytes of JPEG or PNG files.
        size: `(height, width)` to resize to, bilinear with antialiasing.
        max_pixels: images with more pixels, according to their header, are not decoded.

    Returns:
        The images, float32 `(batch, height, width, 3)`, RGB in 0…255, zeros unless the status is `OK`; the original
        sizes, int32 `(batch, 2)`; and the status, int32 `(batch,)`: `OK`, `UNDECODABLE` or
        `TOO_LARGE`.
    """
    signature = (
        tf.TensorSpec((*size, 3), tf.float32),
        tf.TensorSpec((2,), tf.int32),
        tf.TensorSpec((), tf.int32),
    )
    return tf.map_fn(
        lambda file: _decode_one(file, size, max_pixels),
        files,
        fn_output_signature=signature,
        parallel_iterations=_PARALLEL,
    )


def encode(maps, sizes, status):
    """Resize maps and encode them as PNG files.

    Args:
        maps: float32 `(batch, h, w, 1)` in 0…1.
        sizes: int32 `(batch, 2)`, height and width to resize to.
        status: int32 `(batch,)`; a file is empty unless the status is `OK`.

    Returns:
        string `(batch,)`, 8-bit grayscale PNG files.
    """
    return tf.map_fn(
        lambda row: tf.cond(tf.equal(row[2], OK), lambda: _encode_one(row[0], row[1]), lambda: tf.constant(b"")),
        (maps, sizes, status),
        fn_output_signature=tf.TensorSpec((), tf.string),
        parallel_iterations=_PARALLEL,
    )


def _decode_one(file, size, max_pixels):
    blank = tf.zeros((*size, 3))
    shape = _with_default(file, _image_size, tf.zeros((2,), tf.int64))
    pixels = tf.reduce_prod(shape)
    decodable = (pixels > 0) & (pixels <= max_pixels)
    image = tf.cond(
        decodable,
        lambda: _with_default(file, lambda bytes_: _decode_and_resize(bytes_, size), tf.fill((*size, 3), float("nan"))),
        lambda: blank,
    )
    broken = tf.reduce_any(tf.math.is_nan(image))
    status = tf.where(pixels > max_pixels, TOO_LARGE, tf.where((pixels == 0) | broken, UNDECODABLE, OK))
    image = tf.where(broken, blank, image)
    ok = tf.equal(status, OK)
    return image, tf.where(ok, tf.cast(shape, tf.int32), tf.zeros((2,), tf.int32)), tf.cast(status, tf.int32)


def _with_default(value, function, default):
    """Return `function(value)`, or `default` if that fails. In a graph, only a dataset can catch an error."""
    result = tf.data.Dataset.from_tensors(value).map(function).ignore_errors()
    return result.concatenate(tf.data.Dataset.from_tensors(default)).take(1).get_single_element()


def _image_size(file):
    """Read height and width, int64 `(2,)`, from the header."""
    return tf.case(
        [
            (_starts_with(file, _JPEG), lambda: tf.cast(tf.image.extract_jpeg_shape(file)[:2], tf.int64)),
            (_starts_with(file, _PNG) & (tf.strings.length(file) >= _PNG_HEADER), lambda: _png_size(file)),
        ],
        default=lambda: tf.zeros((2,), tf.int64),
        exclusive=True,
    )


def _png_size(file):
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(file, _PNG_HEADER - 8, 8), tf.uint8), tf.int64)
    width, height = tf.unstack(tf.reduce_sum(tf.reshape(digits, (2, 4)) * [2**24, 2**16, 2**8, 1], axis=1))
    # libpng rejects sides of 2^31 or more; 0 marks them as undecodable, and the product cannot overflow
    return tf.where((width < 2**31) & (height < 2**31), tf.stack([height, width]), tf.zeros((2,), tf.int64))


def _png_depth(file):
    """Read the bits per channel, at most 8, since the decoder keeps the upper 8 of 16 bits."""
    return tf.minimum(tf.cast(tf.io.decode_raw(tf.strings.substr(file, _PNG_HEADER, 1), tf.uint8)[0], tf.int32), 8)


def _starts_with(file, prefix):
    return tf.equal(tf.strings.substr(file, 0, len(prefix)), prefix)


def _decode_and_resize(file, size):
    # uint8 takes a quarter of the memory of float32; resize_rgb accepts both
    rgb = tf.cond(
        _starts_with(file, _JPEG),
        # the same inverse DCT as in Pillow, which decodes images for prediction and training
        lambda: tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _composite_on_white(tf.io.decode_png(file, channels=4), _png_depth(file)),
    )
    return resize_rgb(tf.ensure_shape(rgb, (None, None, 3)), size)


def _composite_on_white(rgba, bits):
    rgb, alpha = rgba[..., :3], rgba[..., 3:]

    def blended():
        weight = tf.cast(alpha, tf.float32) / 255.0
        return tf.cast(tf.round(tf.cast(rgb, tf.float32) * weight + 255.0 * (1.0 - weight)), tf.uint8)

    # alpha of 1, 2 or 4 bits is not scaled to 8: opaque is 2^bits - 1
    opaque = tf.reduce_all(tf.equal(alpha, tf.cast(2**bits - 1, tf.uint8)))
    return tf.cond(opaque, lambda: rgb, blended)


def _encode_one(saliency, size):
    saliency = tf.image.resize(saliency, size, antialias=True)
    # level 1 takes a third of the time, and maps compress equally well
    return tf.io.encode_png(tf.cast(tf.round(tf.clip_by_value(saliency, 0.0, 1.0) * 255.0), tf.uint8), compression=1)
