"""The mean of several trainings' weights, as one network."""

import math
import os
from collections.abc import Mapping

import numpy as np

from keras_recnet.errors import PresetError
from keras_recnet.models.recnet import RecNet


def average_presets(shares: Mapping[str | os.PathLike, float], **overrides) -> RecNet:
    """A RecNet whose weights are a weighted mean of several presets' weights.

    Trainings that started from the same weights often lie in one basin of the loss: the mean of their weights then
    computes about what the mean of their maps would be, at the cost of one network. Means and variances of batch
    normalization are averaged like weights. Whether the mean is better must be measured on validation images: trainings
    that started apart give a network that is of no use.

    ```
    average_presets({"runs/a/preset": 0.75, "runs/b/preset": 0.25}, image_size=320).save_to_preset("runs/ab")
    ```

    Args:
        shares: preset, by name or folder, to its positive share; shares are divided by their sum.
        **overrides: constructor arguments to change, such as `image_size`.

    Returns:
        The network of the first preset with the mean weights.

    Raises:
        ValueError: if there is no preset, or a share is not positive and finite.
        PresetError: if a preset cannot be read or is of another architecture.

    Reference:
        Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without
        increasing inference time, ICML 2022; of a training with what it started from: Wortsman et al., Robust
        fine-tuning of zero-shot models, CVPR 2022.
    """
    if not shares or not all(math.isfinite(share) and share > 0 for share in shares.values()):
        raise ValueError(f"`shares` must name presets with positive shares. Received: shares={shares!r}")
    models = {preset: RecNet.from_preset(preset, **overrides) for preset in shares}
    (first, model), *others = models.items()
    for preset, other in others:
        if _architecture(other) != _architecture(model):
            raise PresetError(f"{preset}: a network of another architecture than {first}; no mean exists.")
    alike = zip(*(one.get_weights() for one in models.values()), strict=True)
    model.set_weights([np.average(weights, axis=0, weights=list(shares.values())) for weights in alike])
    return model


def _architecture(model):
    return {key: value for key, value in model.get_config().items() if key not in ("name", "image_size")}
