"""Check JSON values against type annotations with the standard library alone."""

import reprlib
import types
import typing
from collections.abc import Sequence

from keras_recnet.errors import did_you_mean


def problem(value, expected, key: str = "") -> str | None:
    """Return the problem with a JSON value as `"key: problem"`, or None if the value has the expected type.

    Args:
        value: the value.
        expected: a class, `Literal`, `TypedDict`, `dict[str, …]`, `tuple[…]`, `Sequence[…]` or a union of them. An
            integer also counts as a float, a boolean as neither; a list is accepted as a tuple or sequence; keys that
            a `TypedDict` does not declare are refused.
        key: dotted name of the value.
    """
    origin, options = typing.get_origin(expected), typing.get_args(expected)
    if typing.is_typeddict(expected) and isinstance(value, dict):
        keys = typing.get_type_hints(expected)
        for name in keys:
            if name in expected.__required_keys__ and name not in value:
                return f"{_join(key, name)}: is missing."
        for name in value:
            if name not in keys:
                return f"{_join(key, name)}: unknown key.{did_you_mean(name, keys)}"
        return _first_problem(value, keys, key)
    if origin is dict and isinstance(value, dict):
        return _first_problem(value, dict.fromkeys(value, options[1]), key)
    if origin in (typing.Union, types.UnionType):
        alternatives = [option for option in options if option is not types.NoneType]
        if len(alternatives) == 1 and value is not None:
            return problem(value, alternatives[0], key)
        valid = any(problem(value, option, key) is None for option in options)
    elif origin is typing.Literal:
        valid = value in options
    elif origin in (tuple, Sequence) and isinstance(value, list):
        items = options if origin is tuple else options * len(value)
        valid = len(value) == len(items) and not any(map(problem, value, items))
    elif expected in (int, float):
        valid = isinstance(value, (int, expected)) and not isinstance(value, bool)
    else:
        valid = isinstance(value, dict if typing.is_typeddict(expected) else origin or expected)
    return None if valid else f"{key}: must be {_describe(expected)}. Received: {reprlib.repr(value)}"


def _first_problem(values, expected, key):
    problems = (problem(value, expected[name], _join(key, name)) for name, value in values.items())
    return next(filter(None, problems), None)


def _join(key, name):
    return f"{key}.{name}" if key else name


def _describe(expected):
    if typing.get_origin(expected) is typing.Literal:
        return f"one of {typing.get_args(expected)}"
    if expected is dict or typing.is_typeddict(expected) or typing.get_origin(expected) is dict:
        return "a mapping"
    if expected == tuple[int, int]:
        return "two integers"
    return f"of type {expected.__name__ if isinstance(expected, type) else expected}"
