"""SavedModel for TF Serving, with all pre- and postprocessing included.

A `RecNet` has these signatures, each for any batch size, height and width:

| signature | inputs | outputs |
|---|---|---|
| `serving_default` | `images` float32 `(batch, H, W, 3)`, RGB in 0…255 | `saliency` `(batch, H, W, 1)` in 0…1 |
| `uint8` | the same, but uint8: a quarter of the bytes | the same |
| `encoded` | `image_bytes` string `(batch,)`, JPEG or PNG files | `saliency_bytes` PNG files, `status` int32 |
| `branches` (only with two branches) | as `serving_default` | `foreground`, `background`, `saliency` |

`encoded` never fails: `status` is 0 for a good image, 1 if it cannot be decoded and 2 if it is too large. Unless the
status is 0, the PNG file is empty. Therefore a server can batch requests of several clients: a bad image cannot make
another client's request fail, and images may have different sizes. TensorFlow's decoders do not apply the EXIF
rotation; the client does.

An `RCAUNet` has `group`: `images` `(batch, images, H, W, 3)` and `mask` `(batch, images)` bool → `saliency` `(batch,
images, H, W, 1)`. For groups of any size, in the memory of one image, it has `encode`, `step` and `decode` as in a
LiteRT file (`keras_recnet.export.litert.signatures`), except that `encode` accepts images of any size.

The variables are stored once for all signatures. TF Serving warms up with the requests in `assets.extra`.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_recnet.presets import COSALIENCY

WARMUP = "assets.extra/tf_serving_warmup_requests"


def write(model: keras.Model, functions: dict, folder: Path, image: np.ndarray) -> None:
    """Write a SavedModel.

    Args:
        model: the `RecNet` or `RCAUNet`, for the shapes of the warm-up requests.
        functions: the functions to serve by name, from `keras_recnet.export.savedmodel.signatures`.
        folder: output folder.
        image: image of the warm-up requests, uint8 `(H, W, 3)`.
    """
    # Only these functions and their variables: Keras' export would also write the functions of all layers.
    module = tf.Module()
    module.all_variables = [v for function in functions.values() for v in function.get_concrete_function().variables]
    module.functions = functions
    tf.saved_model.save(module, str(folder), signatures=dict(functions))
    _write_warmup(_examples(model, image), model.name, folder / WARMUP, functions)


def _write_warmup(examples, model_name, file, names):
    """Write one request per signature, since the first request of each kind is slow."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    file.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for name, inputs in examples.items():
            if name not in names:
                continue
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = name
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _examples(model, image):
    images = image[None].astype(np.float32)
    examples = {
        "serving_default": {"images": images},
        "uint8": {"images": image[None]},
        "branches": {"images": images},
        "encoded": {"image_bytes": [tf.io.encode_png(image).numpy()]},
    }
    if model.task == COSALIENCY:
        examples |= {
            "group": {"images": images[:, None], "mask": np.ones((1, 1), bool)},
            "encode": {"image": images},
            "decode": _zeros(model.decoder.input),
        }
        if model.step is not None:
            examples["step"] = _zeros(model.step.input)
    return examples


def _zeros(inputs):
    return {name: np.zeros((1, *tensor.shape[1:]), np.float32) for name, tensor in inputs.items()}
