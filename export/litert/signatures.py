"""Signatures of a LiteRT file: one for RecNet, one per part for RCAUNet."""

import keras

from keras_recnet import presets

SALIENCY = "serving_default"
ENCODE, STEP, DECODE = "encode", "step", "decode"


def build(model: keras.Model) -> dict[str, keras.Model]:
    """Return the signatures of a model by name: functional models that map dicts to dicts and share its weights.

    A `RecNet` has `serving_default`: `image` → `saliency`. An `RCAUNet` has

    - `encode`: `image` `(1, H, W, 3)` → the features of the image, `x` and the other inputs of `decode`,
    - `step`: `x` and `state` → `state`, the state of the group after one more image,
    - `decode`: the features of an image and `state` → `saliency` `(1, H, W, 1)`.

    The state before the first image is the `x` of that image, padded with zeros to the channels of `state`
    (`GroupCell.start`). A model without a group branch has no `step`, and its `decode` takes no `state`.
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
    step = model.step
    if step is not None:
        parts[STEP] = keras.Model(step.input, {"state": step.output})
    return parts
