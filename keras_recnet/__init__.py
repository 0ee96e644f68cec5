"""Saliency and co-saliency maps for Keras.

Importing this package imports neither Keras nor TensorFlow: each name below is loaded when it is first used.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "GroupPredictor": "keras_recnet.group_inference",
    "Predictor": "keras_recnet.inference",
    "cosaliency": "keras_recnet.group_inference",
    "saliency": "keras_recnet.inference",
    "RCAUNet": "keras_recnet.models",
    "RecNet": "keras_recnet.models",
    "load_model": "keras_recnet.models",
    "ConvGRUCell": "keras_recnet.layers",
    "FeatureIntegration": "keras_recnet.layers",
    "Fusion": "keras_recnet.layers",
    "GroupRNN": "keras_recnet.layers",
    "RCAUCell": "keras_recnet.layers",
    "ReciprocalAttention": "keras_recnet.layers",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
