"""Reading of YAML files and `--set` entries, with the source line of each key for error messages."""

import dataclasses
import os
import re
from pathlib import Path

import yaml

from keras_recnet.errors import ConfigError, did_you_mean

SHIPPED = Path(__file__).parents[1] / "configs"
MAX_DEPTH = 20


@dataclasses.dataclass
class Settings:
    """Values from files and the command line, before validation.

    Attributes:
        values: nested dict.
        places: dotted key → its source, such as `"mine.yaml:12"` or `"--set batch_size=8"`.
        name: name of the run: the file's name without suffix.
    """

    values: dict
    places: dict[str, str]
    name: str


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, limited to what a configuration needs.

    It reads `2e-4` as a number, not as a string, and refuses deep nesting, huge whole numbers and aliases, which can
    be recursive.
    """

    depth = 0

    def compose_node(self, parent, index):
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                problem="aliases are not supported, write the value again", problem_mark=mark
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(problem="is nested too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node, deep=False):
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # PyYAML's constructors raise errors of many kinds for texts such as `2001-99-99` and `!!int ''`
        except Exception as error:
            problem = f"the value cannot be read ({error or type(error).__name__})"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark) from error
        if type(value) is int and abs(value) >= 2**31:
            problem = "the whole number is too large, the limit is 2147483647"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return value


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
    """Return the names of the configurations that ship with the library."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read(name_or_path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> Settings:
    """Read a configuration and the ones it `extends`, and apply the overrides.

    Args:
        name_or_path: name of a shipped configuration, or path of a YAML file.
        overrides: `"dotted.key=value"` entries; the value is parsed as YAML.

    Raises:
        ConfigError: if there is no such configuration, or it is not valid YAML.
    """
    path = find(name_or_path)
    settings = _read_chain(path, ())
    for entry in overrides:
        key, equals, text = entry.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")) or key.count(".") >= MAX_DEPTH:
            raise ConfigError(f"--set {entry}: must be of the form key=value, such as --set data.root=PHOTOS.")
        value, places = text.strip(), {}
        # a comment makes no sense here, but ` #` occurs in paths
        if not re.search(r"(^|\s)#", text) or value[:1] in ("'", '"', "[", "{"):
            value, places = _parse(text, f"--set {entry}", key)
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(settings, nested, {key: f"--set {entry}", **dict.fromkeys(places, f"--set {entry}")})
    return settings


def find(name_or_path: str | os.PathLike) -> Path:
    """Return the file of a configuration.

    Args:
        name_or_path: name of a shipped configuration, or path of a YAML file.

    Raises:
        ConfigError: if there is no such configuration; lists the shipped ones.
    """
    name = os.fspath(name_or_path)
    if name in shipped():
        return SHIPPED / f"{name}.yaml"
    if os.path.isfile(name):
        return Path(name)
    raise ConfigError(
        f"There is no configuration or file {name!r}.{did_you_mean(name, shipped())} Shipped configurations: "
        f"{', '.join(shipped())}. To use your own, pass the path of the YAML file."
    )


def _read_chain(path: Path, seen: tuple[Path, ...]) -> Settings:
    if path in seen:
        raise ConfigError(f"{path}: `extends` is circular: {' → '.join(p.stem for p in (*seen, path))}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    values, places = _parse(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a configuration must be a mapping of keys to values. Received: {values!r}")
    base = values.pop("extends", None)
    settings = Settings({}, {}, path.stem)
    if base is not None:
        if not isinstance(base, str):
            raise ConfigError(
                f"{places['extends']}: extends: must be the name or path of a configuration. Received: {base!r}"
            )
        relative = path.parent / base
        settings = _read_chain(relative if os.path.isfile(relative) else find(base), (*seen, path))
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
    """Return the value of a YAML text, and the source of each of its keys."""
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
        raise ConfigError(f"{where}: invalid YAML: {getattr(error, 'problem', None) or error}.") from error


def _note_places(node, prefix: str, source: str, places: dict[str, str]):
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[f"{prefix}[{index}]"] = f"{source}:{item.start_mark.line + 1}"
            _note_places(item, f"{prefix}[{index}]", source, places)
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        name = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        key = f"{prefix}.{name}" if prefix else name
        place = f"{source}:{key_node.start_mark.line + 1}"
        if key_node.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{place}: {key}: a key must be a string.")
        if key in places:
            raise ConfigError(f"{place}: {key}: is set twice, first at {places[key]}. Remove one of them.")
        places[key] = place
        _note_places(value_node, key, source, places)
