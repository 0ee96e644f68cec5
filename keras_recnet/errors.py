"""Errors that users can fix. Each message names the file or key and says what to do."""

import difflib
from collections.abc import Iterable


class RecNetError(Exception):
    """Base class of all errors that are caused by the input, not by the library."""


class ImageError(RecNetError):
    """An image cannot be read or is rejected."""


class ImageTooLargeError(ImageError):
    """An image has more pixels than the limit."""


class PresetError(RecNetError):
    """A preset is unknown, incomplete or damaged."""


class WeightsError(RecNetError):
    """Pretrained weights are missing or do not match the model."""


class ConfigError(RecNetError):
    """A configuration has an unknown key or an invalid value."""


class DataError(RecNetError):
    """Training or evaluation data is invalid."""


class DiskError(RecNetError):
    """A file cannot be written."""


class ProcessLostError(RecNetError):
    """Another process of a distributed training run has ended."""


class MissingExtraError(RecNetError):
    """An optional dependency is not installed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean …?"` with the closest of the known words, or an empty string if none is close."""
    words = [str(other) for other in known]
    # prefer words that contain `word`: float16 means mixed_float16, not float32
    containing = [other for other in words if str(word) in other]
    closest = difflib.get_close_matches(str(word), containing or words, n=1, cutoff=0.6)
    return f" Did you mean {closest[0]!r}?" if closest else ""


def validation_message(error: dict, key: str, valid_keys: Iterable[str] = (), hint: str = "") -> str:
    """Describe a pydantic validation error as `"key: what is wrong. Received: value"`.

    Args:
        error: entry of `ValidationError.errors()`.
        key: dotted name of the key; empty if the error concerns the whole mapping.
        valid_keys: keys of the mapping that holds an unknown key, or of the mapping that is expected.
        hint: text for an unknown key that resembles no valid key; by default, the valid keys are listed.
    """
    keys, kind, prefix = list(valid_keys), error["type"], f"{key}: " if key else ""
    received = f" Received: {error['input']!r}"
    if kind == "extra_forbidden":
        hint = did_you_mean(key.rpartition(".")[2], keys) or hint or f" Valid keys here: {', '.join(keys)}."
        return f"{prefix}unknown key.{hint}"
    if kind == "missing":
        return f"{prefix}is missing."
    if kind == "value_error":
        message = str(error["ctx"]["error"])
        return f"{prefix}{message}.{received}" if key else message
    if kind == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ")
        hint = did_you_mean(error["input"], [choice.strip("'") for choice in choices.split(", ")])
        return f"{prefix}must be one of {choices}.{hint}{received}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        example = f" with keys such as {', '.join(keys[:3])}" if keys else ""
        return f"{prefix}must be a mapping{example}.{received}"
    return f"{prefix}{error['msg'][0].lower()}{error['msg'][1:]}.{received}"
