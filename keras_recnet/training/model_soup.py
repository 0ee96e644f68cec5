"""Model soups: weighted means of the weights of several trainings."""

import math
import os
from collections.abc import Mapping

import numpy as np

from keras_recnet.errors import PresetError
from keras_recnet.models.recnet import RecNet


def average_presets(shares: Mapping[str | os.PathLike, float], **overrides) -> RecNet:
    """Return a RecNet with the weighted mean of the weights of several presets.

    Trainings from the same initial weights often end in the same basin of the loss. The model with their mean weights
    then predicts about the mean of their maps, at the cost of one network. The statistics of batch normalization are
    averaged like weights. Measure on validation images whether the mean is better: for trainings from different initial
    weights it is useless.

    ```
    average_presets({"runs/a/preset": 0.75, "runs/b/preset": 0.25}, image_size=320).save_to_preset("runs/ab")
    ```

    Args:
        shares: name or folder of a preset → its positive share; the shares are normalized to a sum of 1.
        **overrides: constructor arguments to change, such as `image_size`.

    Returns:
        The model of the first preset, with the mean weights.

    Raises:
        ValueError: if there are no presets, or a share is not positive and finite.
        PresetError: if a preset cannot be read, or the architectures differ.

    Reference:
        Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without
        increasing inference time, ICML 2022. For the mean of a fine-tuned model and its initial weights: Wortsman et
        al., Robust fine-tuning of zero-shot models, CVPR 2022.
    """
    if not shares or not all(math.isfinite(share) and share > 0 for share in shares.values()):
        raise ValueError(f"`shares` must map presets to positive numbers. Received: shares={shares!r}")
    models = {preset: RecNet.from_preset(preset, **overrides) for preset in shares}
    (first, model), *others = models.items()
    for preset, other in others:
        if _architecture(other) != _architecture(model):
            raise PresetError(f"{preset}: the architecture differs from that of {first}, so they have no mean.")
    corresponding = zip(*(one.get_weights() for one in models.values()), strict=True)
    model.set_weights([np.average(weights, axis=0, weights=list(shares.values())) for weights in corresponding])
    return model


def _architecture(model):
    return {key: value for key, value in model.get_config().items() if key not in ("name", "image_size")}
