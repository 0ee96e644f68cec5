"""Files on disk -> batches: `tf.data` pipelines for training and evaluation.

Each name below is loaded when it is first used, so that making lists and groups of files needs no TensorFlow.
"""

import importlib

_HOMES = {
    "Augment": "augment",
    "Pair": "pairs",
    "PipelineDataError": "pairs",
    "SaliencyPairs": "duts",
    "check_pairs": "checking",
    "find_pairs": "pairs",
    "read_image": "reading",
    "read_pair": "reading",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
