"""SavedModel: a model as TF Serving loads it, with everything between a client's picture and its map inside.

A `RecNet` gets these signatures, each for any batch, height and width:

| signature | takes | gives |
|---|---|---|
| `serving_default` | `images` float32 `(batch, H, W, 3)`, RGB in 0…255 | `saliency` `(batch, H, W, 1)` in 0…1 |
| `uint8` | the same as uint8, a quarter of the bytes | the same |
| `encoded` | `image_bytes` string `(batch,)`, JPEG or PNG files | `saliency_bytes` PNG files, `status` int32 |
| `branches` | as `serving_default` | `foreground`, `background`, `saliency`; a model with one branch has it not |

`encoded` never fails: `status` is 0 for a good picture, 1 for one that cannot be decoded and 2 for one that is too
large, and the file is empty then. So what one client sends cannot fail another's request when the server merges them,
and pictures of all sizes can be merged. TensorFlow's decoders do not apply the EXIF rotation; the client does.

An `RCAUNet` gets `group`: `images` `(batch, images, H, W, 3)` and `mask` `(batch, images)` bool → `saliency`
`(batch, images, H, W, 1)`; and for groups of any size in the memory of one image `encode`, `step` and `decode` as in a
LiteRT file (`keras_recnet.export.litert.signatures`), with `encode` taking images of any size.

The variables are stored once for all signatures. `assets.extra` holds requests that TF Serving warms up with.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_recnet.export.drawn_pictures import as_png, drawn
from keras_recnet.presets import COSALIENCY

WARMUP = "assets.extra/tf_serving_warmup_requests"


def write(model: keras.Model, served: dict, folder: Path) -> None:
    """Writes a SavedModel.

    Args:
        model: the `RecNet` or `RCAUNet`, for the shapes of the warm-up's requests.
        served: the functions to serve by name, of `keras_recnet.export.savedmodel.signatures`.
        folder: where to.
    """
    # A module of the functions and their variables alone; Keras' own export would add every layer's functions.
    module = tf.Module()
    module.held = [v for function in served.values() for v in function.get_concrete_function().variables]
    module.functions = served
    tf.saved_model.save(module, str(folder), signatures=dict(served))
    _write_warmup(model, folder / WARMUP, served)


def _write_warmup(model, file, names):
    """One request a signature: the first of each kind is slow, and shall not be a client's."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    file.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for name, inputs in _examples(model).items():
            if name not in names:
                continue
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model.name
            request.model_spec.signature_name = name
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _examples(model):
    picture = drawn((240, 320))
    images = picture[None].astype(np.float32)
    examples = {
        "serving_default": {"images": images},
        "uint8": {"images": picture[None]},
        "branches": {"images": images},
        "encoded": {"image_bytes": [as_png(picture)]},
    }
    if model.task == COSALIENCY:
        features = {name: np.zeros((1, *tensor.shape[1:]), np.float32) for name, tensor in model.decoder.input.items()}
        examples |= {
            "group": {"images": images[:, None], "mask": np.ones((1, 1), bool)},
            "encode": {"image": images},
            "decode": features,
        }
        if model.step is not None:
            examples["step"] = {name: features[name] for name in ("x", "state")}
    return examples
