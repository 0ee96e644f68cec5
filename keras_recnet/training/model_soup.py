"""Model soups: weighted means of the weights of several training runs."""

import math
import os
from collections.abc import Mapping

import numpy as np

from keras_recnet.errors import PresetError
from keras_recnet.models import RCAUNet, RecNet, from_preset


def average_presets(shares: Mapping[str | os.PathLike, float], **overrides) -> RecNet | RCAUNet:
    """Build a model soup: a model with the weighted mean of the weights of several presets.

    Training runs from the same initial weights often end in the same loss basin. The soup then predicts approximately
    the mean of their maps, at the cost of one network. Batch normalization statistics are averaged like weights. Check
    on validation images that the soup is better; averaging runs from different initial weights does not work.

    ```
    average_presets({"runs/a/preset": 0.75, "runs/b/preset": 0.25}, image_size=320).save_to_preset("runs/ab")
    ```

    Args:
        shares: name or folder of a preset → its positive share; the shares are normalized to sum to 1.
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
    models = {preset: from_preset(preset, **overrides) for preset in shares}
    (first, model), *others = models.items()
    for preset, other in others:
        if _architecture(other) != _architecture(model):
            raise PresetError(f"{preset}: the architecture differs from that of {first}; they cannot be averaged.")
    weight_lists = zip(*(each.get_weights() for each in models.values()), strict=True)
    model.set_weights([np.average(weights, axis=0, weights=list(shares.values())) for weights in weight_lists])
    return model


def _architecture(model):
    config = {key: value for key, value in model.get_config().items() if key not in ("name", "image_size")}
    return model.task, config
