"""Signatures of a LiteRT file: one for RecNet, one per part for RCAUNet."""

import keras

from keras_recnet import presets

SALIENCY = "serving_default"
ENCODE, STEP, DECODE = "encode", "step", "decode"


def build(model: keras.Model) -> dict[str, keras.Model]:
    """Return the signatures of a model by name: functional models that map dicts to dicts and share its weights.

    A `RecNet` has `serving_default`: `image` → `saliency`. An `RCAUNet` has

    - `encode`: `image` `(1, H, W, 3)` → the features of the image,
    - `step`: features of an image and the state of the group → the state after this image,
    - `decode`: features of an image and the state of the group → `saliency` `(1, H, W, 1)`.

    The outputs of `step` are the names of the state's tensors, which are all 0 before the first image. A model without
    a group branch has no `step`.
    """
    if model.task == presets.SALIENCY:
        inference = model.to_inference()
        return {SALIENCY: keras.Model({"image": inference.input}, {"saliency": inference.output})}
    decoder = model.decoder
    saliency = keras.layers.Activation("sigmoid", name="saliency", dtype="float32")(decoder.output)
    parts = {
        ENCODE: keras.Model({"image": model.encoder.input}, model.encoder.output),
        DECODE: keras.Model(decoder.input, {"saliency": saliency}),
    }
    if model.step is not None:
        parts[STEP] = model.step
    return parts
