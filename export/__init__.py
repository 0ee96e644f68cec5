"""Exports: a model or preset becomes an artifact, and the artifact is proved to compute the same.

Importing this package imports neither Keras nor TensorFlow, which the clients in `keras_recnet.export.serving` do
without: each name below is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from keras_recnet import _lazy

if TYPE_CHECKING:
    from keras_recnet.export.exporting import FORMATS as FORMATS
    from keras_recnet.export.exporting import export_model as export_model
    from keras_recnet.export.litert.converting import add_to_preset as add_to_preset
    from keras_recnet.export.litert.converting import convert as convert
    from keras_recnet.export.litert.flatbuffer import read_metadata as read_metadata
    from keras_recnet.export.litert.gpu_delegate import gpu_incompatible as gpu_incompatible
    from keras_recnet.export.verification import ConversionError as ConversionError

_NAMES = {
    "FORMATS": "exporting",
    "export_model": "exporting",
    "ConversionError": "verification",
    "add_to_preset": "litert.converting",
    "convert": "litert.converting",
    "gpu_incompatible": "litert.gpu_delegate",
    "read_metadata": "litert.flatbuffer",
}

__getattr__, __dir__, __all__ = _lazy.attach(__name__, _NAMES)
