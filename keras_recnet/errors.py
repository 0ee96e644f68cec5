"""Errors that a user can do something about: each message names the file or key and the way out."""


class RecNetError(Exception):
    """Base of all errors of this library that are the input's, not the code's."""


class ImageError(RecNetError):
    """A picture that cannot be read, or that is refused."""


class PresetError(RecNetError):
    """A preset that is unknown, incomplete or damaged."""


class WeightsError(RecNetError):
    """Pretrained weights that are missing or do not fit."""


class ConfigError(RecNetError):
    """A configuration with an unknown key or a wrong value."""


class DataError(RecNetError):
    """Training or evaluation data with faults."""


class DiskError(RecNetError):
    """A file that could not be written."""


class MissingExtraError(RecNetError):
    """A part of the library whose optional dependency is not installed."""
