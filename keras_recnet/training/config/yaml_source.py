"""YAML files and `--set` entries → one nested dict that still knows where each key was written."""

import dataclasses
import os
import re
from pathlib import Path

import yaml

from keras_recnet.errors import ConfigError, did_you_mean

SHIPPED = Path(__file__).parents[1] / "configs"


@dataclasses.dataclass
class Settings:
    """Values read from files and the command line, not validated yet.

    Attributes:
        values: nested dict.
        places: dotted key → where it was written, such as `"mine.yaml:12"` or `"--set batch_size=8"`.
        name: the name of the run: the file's name without its suffix.
    """

    values: dict
    places: dict[str, str]
    name: str


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `2e-4` is a number as everybody expects."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if tag != "tag:yaml.org,2002:float"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+0123456789."),
)


def shipped() -> list[str]:
    """The names of the configurations that come with the library."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read(name_or_path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> Settings:
    """Reads a configuration and what it `extends`, and lays the `overrides` over it.

    Args:
        name_or_path: a shipped configuration's name, or a YAML file.
        overrides: `"dotted.key=value"` entries; the value is read as YAML.

    Raises:
        ConfigError: if there is no such configuration, or it cannot be read as YAML.
    """
    path = find(name_or_path)
    settings = _read_chain(path, ())
    for entry in overrides:
        key, equals, text = entry.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {entry}: not of the form key=value, such as --set data.root=PHOTOS.")
        value, places = _parse(text, f"--set {entry}", key)
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(settings, nested, {key: f"--set {entry}", **dict.fromkeys(places, f"--set {entry}")})
    return settings


def find(name_or_path: str | os.PathLike) -> Path:
    """The file of a configuration, given by the name it ships under or by its path.

    Raises:
        ConfigError: if there is none, with the names that ship.
    """
    name = os.fspath(name_or_path)
    if name in shipped():
        return SHIPPED / f"{name}.yaml"
    if os.path.isfile(name):
        return Path(name)
    raise ConfigError(
        f"There is no configuration and no file {name!r}.{did_you_mean(name, shipped())} Configurations that ship: "
        f"{', '.join(shipped())}; any other is given by the path of its YAML file."
    )


def _read_chain(path: Path, seen: tuple[Path, ...]) -> Settings:
    if path in seen:
        raise ConfigError(f"{path}: `extends` goes round in a circle: {' → '.join(p.stem for p in (*seen, path))}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    values, places = _parse(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values. Received: {values!r}")
    base = values.pop("extends", None)
    settings = Settings({}, {}, path.stem)
    if base is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{places['extends']}: extends: expects a name or a path. Received: {base!r}")
        beside = path.parent / base
        settings = _read_chain(beside if beside.is_file() else find(base), (*seen, path))
        settings.name = path.stem
    _merge(settings, values, places)
    return settings


def _merge(settings: Settings, values: dict, places: dict[str, str]):
    settings.places.update(places)

    def merge(into: dict, new: dict):
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                merge(into[key], value)
            else:
                into[key] = value

    merge(settings.values, values)


def _parse(text: str, source: str, prefix: str = "") -> tuple[object, dict[str, str]]:
    """The value of a YAML text, and where each of its keys stands."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            places: dict[str, str] = {}
            if node is not None:
                _note_places(node, prefix, source, places)
            return (None if node is None else loader.construct_document(node)), places
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark and not source.startswith("--set") else source
        raise ConfigError(f"{where}: not readable as YAML: {getattr(error, 'problem', None) or error}.") from error


def _note_places(node, prefix: str, source: str, places: dict[str, str]):
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
        place = f"{source}:{key_node.start_mark.line + 1}"
        if key in places:
            raise ConfigError(f"{place}: {key}: written twice, first at {places[key]}. Remove one of them.")
        places[key] = place
        _note_places(value_node, key, source, places)
