"""Exports: a model or preset becomes an artifact, and the artifact is proved to compute the same.

Importing this package imports neither Keras nor TensorFlow, which the clients in `keras_recnet.export.serving` do
without: each name below is loaded when it is first used.
"""

import importlib

_HOMES = {
    "FORMATS": "keras_recnet.export.artifacts",
    "export_model": "keras_recnet.export.artifacts",
    "ConversionError": "keras_recnet.export.proof",
    "add_to_preset": "keras_recnet.export.litert",
    "convert": "keras_recnet.export.litert",
    "gpu_incompatible": "keras_recnet.export.gpu",
    "read_metadata": "keras_recnet.export.edits",
}

__all__ = [*_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
