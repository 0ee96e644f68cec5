"""Exports: a model or preset becomes an artifact, and the artifact is proved to compute the same."""

from keras_recnet.export.artifacts import FORMATS, export_model
from keras_recnet.export.litert import add_to_preset, convert
from keras_recnet.export.proof import ConversionError

__all__ = ["FORMATS", "ConversionError", "add_to_preset", "convert", "export_model"]
