"""Exports: a model or preset becomes an artifact, and the artifact is proved to compute the same."""

from keras_recnet.export.litert import ConversionError, add_to_preset, convert

__all__ = ["ConversionError", "add_to_preset", "convert"]
