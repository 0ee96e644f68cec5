"""Serving functions of a SavedModel."""

import keras
import tensorflow as tf

from keras_recnet.export.litert import signatures
from keras_recnet.export.savedmodel import image_codec
from keras_recnet.export.savedmodel.resizing import resize_rgb
from keras_recnet.presets import COSALIENCY

MAX_PIXELS = 50_000_000  # the largest photos of phones have 48 or 50 million pixels
SALIENCY = "saliency"


def build(model: keras.Model, max_pixels: int = MAX_PIXELS) -> dict[str, tf.types.experimental.PolymorphicFunction]:
    """Return the signatures of a `RecNet` or `RCAUNet` by name: functions of named tensors to a dict of tensors.

    `keras_recnet.export.savedmodel.writing` lists the inputs and outputs of the signatures.
    """
    return _group_signatures(model, max_pixels) if model.task == COSALIENCY else _image_signatures(model, max_pixels)


def _image_signatures(model, max_pixels):
    size = tuple(model.image_size)
    inference = model.to_inference()

    def maps(images):
        _check(images, "images", max_pixels)
        saliency = inference(resize_rgb(images, size), training=False)
        return {SALIENCY: _resize(saliency, tf.shape(images)[1:3])}

    def encoded(image_bytes):
        tf.debugging.assert_positive(tf.size(image_bytes), message="`image_bytes` is empty. Send at least one image.")
        images, sizes, status = image_codec.decode(image_bytes, size, max_pixels)
        saliency = inference(images, training=False)
        return {"saliency_bytes": image_codec.encode(saliency, sizes, status), "status": status}

    images = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
    functions = {
        "serving_default": tf.function(maps, input_signature=[images]),
        "uint8": tf.function(maps, input_signature=[tf.TensorSpec(images.shape, tf.uint8, name="images")]),
        "encoded": tf.function(encoded, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")]),
    }
    if model.branches == "both":

        def branches(images):
            _check(images, "images", max_pixels)
            logits = model(resize_rgb(images, size), training=False)
            shape = tf.shape(images)[1:3]
            foreground, background = tf.split(_resize(tf.sigmoid(logits), shape), 2, axis=-1)
            saliency = _resize(fusion(logits), shape)
            return {"foreground": foreground, "background": background, SALIENCY: saliency}

        fusion = inference.get_layer("saliency")  # of both channels, even if the map needs only one
        functions["branches"] = tf.function(branches, input_signature=[images])
    return functions


def _group_signatures(model, max_pixels):
    size = tuple(model.image_size)
    inference = model.to_inference()

    def group(images, mask):
        _check(images, "images", max_pixels)
        shape = tf.shape(images)
        tf.debugging.assert_equal(
            tf.shape(mask), shape[:2], message="`mask` must have the shape (batch, images) of `images`."
        )
        merged = tf.reshape(images, (-1, shape[2], shape[3], 3))
        resized = tf.reshape(resize_rgb(merged, size), (shape[0], shape[1], *size, 3))
        saliency = inference({"images": resized, "mask": mask}, training=False)
        saliency = _resize(tf.reshape(saliency, (-1, *size, 1)), shape[2:4])
        return {SALIENCY: tf.reshape(saliency, (shape[0], shape[1], shape[2], shape[3], 1))}

    functions = {
        "group": tf.function(
            group,
            input_signature=[
                tf.TensorSpec((None, None, None, None, 3), tf.float32, name="images"),
                tf.TensorSpec((None, None), tf.bool, name="mask"),
            ],
        )
    }
    for name, part in signatures.build(model).items():
        functions[name] = _encode(part, size, max_pixels) if name == signatures.ENCODE else _part(part)
    return functions


def _encode(part, size, max_pixels):
    def encode(image):
        _check(image, "image", max_pixels)
        return _in_float32(part({"image": resize_rgb(image, size)}, training=False))

    return tf.function(encode, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="image")])


def _part(part):
    names = list(part.input)

    def run(*tensors):
        return _in_float32(part(dict(zip(names, tensors, strict=True)), training=False))

    specs = [tf.TensorSpec((None, *part.input[name].shape[1:]), tf.float32, name=name) for name in names]
    return tf.function(run, input_signature=specs)


def _in_float32(outputs):
    """Cast the outputs of mixed precision to float32, the dtype of the inputs of other signatures."""
    return {name: tf.cast(tensor, tf.float32) for name, tensor in outputs.items()}


def _resize(maps, size):
    return tf.image.resize(maps, size, antialias=True)


def _check(images, name, max_pixels):
    shape = tf.shape(images, out_type=tf.int64)
    tf.debugging.assert_greater(
        tf.reduce_prod(shape),
        tf.constant(0, tf.int64),
        message=f"`{name}` is empty. Send at least one image with at least one pixel.",
    )
    tf.debugging.assert_less_equal(
        shape[-3] * shape[-2],
        tf.constant(max_pixels, tf.int64),
        message=f"`{name}` has more than {max_pixels:,} pixels per image. Send smaller images.",
    )
