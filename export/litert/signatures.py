"""What the signatures of a LiteRT file compute: one for a network of single images, one a part for one of groups."""

import keras

from keras_recnet import presets

SALIENCY = "serving_default"
ENCODE, STEP, DECODE = "encode", "step", "decode"


def of(model: keras.Model) -> dict[str, keras.Model]:
    """The signatures of a model by name, each a functional model from a dict to a dict; they share its weights.

    A `RecNet` has `serving_default`: `image` → `saliency`. An `RCAUNet` has, without a batch of groups,

    - `encode`: `image` `(1, H, W, 3)` → the image's features, `x` and what else `decode` takes,
    - `step`: `x` and `state` → `state`, the group's state after one more image,
    - `decode`: an image's features and `state` → `saliency` `(1, H, W, 1)`.

    The state before the first image is that image's `x`, with channels of zeros behind it where `state` has more. A
    model without a group branch has no `step`, and its `decode` no `state`.
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
