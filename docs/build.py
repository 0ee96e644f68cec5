"""Build the documentation site: `python docs/build.py` (or `make docs`), then open build/docs/site/index.html.

The site contains the pages of `docs/`, the preset cards, CONTRIBUTING and CHANGELOG, and generated pages: the API
reference, the configuration keys and the help of the commands. Warnings are errors.
"""

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import griffe
import pydantic
from latex2mathml.converter import convert

from keras_recnet.cli.main import cli
from keras_recnet.training.config import loading
from keras_recnet.training.config.schema import Section

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "docs"
PAGES = BUILD / "pages"

# Pages outside docs/ and their place in the site.
OTHER_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{f"keras_recnet/presets/{name}/CARD.md": f"presets/{name}.md" for name in ("recnet_lite0", "rcau_lite0")},
}

# API pages: title → public names, and modules whose public names are all listed, inside keras_recnet.
API = {
    "Prediction": ("saliency", "cosaliency", "cutout", "crop", "Predictor", "GroupPredictor", "presets", "errors"),
    "Bulk prediction": ("bulk",),
    "Models": ("models", "backbones"),
    "Layers": ("layers",),
    "Losses": ("losses",),
    "Metrics": ("metrics",),
    "Optimizers": ("optimizers",),
    "Pipelines": ("pipelines",),
    "Training": ("training.run.train", "training.model_soup"),
    "Evaluation": ("evaluation.run.evaluate", "evaluation.datasets.DataSet"),
    "Export": ("export",),
    "Serving clients": ("export.serving.rest_client", "export.serving.grpc_client", "export.serving.client"),
}


def main():
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
    for source, page in OTHER_PAGES.items():
        (PAGES / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / source, PAGES / page)
    origins = {PAGES / page: ROOT / source for source, page in OTHER_PAGES.items()}
    for page in PAGES.rglob("*.md"):
        text = with_site_links(page.read_text(encoding="utf-8"), page, origins.get(page))
        page.write_text(with_math(text), encoding="utf-8")
    (PAGES / "commands.md").write_text(commands_page(), encoding="utf-8")
    (PAGES / "configuration.md").write_text(configuration_page(), encoding="utf-8")
    (PAGES / "api").mkdir()
    for title, entries in API.items():
        (PAGES / api_file(title)).write_text(api_page(title, entries), encoding="utf-8")
    link_package(BUILD / "python" / "keras_recnet")
    for file in ("zensical.toml", "griffe_examples.py"):
        shutil.copy(ROOT / "docs" / file, BUILD)
    build = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=BUILD, capture_output=True, text=True, check=False
    )
    print(build.stdout, build.stderr, sep="", end="")
    if build.returncode or "griffe:" in build.stderr:
        sys.exit("The documentation has warnings; they are errors.")


def link_package(folder: Path) -> None:
    """Lay the package out as it is installed, so that the API reference finds `keras_recnet.pipelines` and `export`."""
    folder.mkdir(parents=True)
    for path in (*(ROOT / "keras_recnet").iterdir(), ROOT / "pipelines", ROOT / "export"):
        (folder / path.name).symlink_to(path)


def with_site_links(text: str, page: Path, origin: Path | None) -> str:
    """Point links at files of the repository to their pages in the site; links to other files become plain text."""
    origin = origin or ROOT / "docs" / page.relative_to(PAGES)

    def replace(match):
        label, target, anchor = match.groups()
        path = (origin.parent / target).resolve()
        if not path.is_relative_to(ROOT):
            raise ValueError(f"{origin}: {target} is outside the repository")
        inside = path.relative_to(ROOT).as_posix()
        generated = ("docs/commands.md", "docs/configuration.md", *(f"docs/{api_file(title)}" for title in API))
        if not path.exists() and inside not in generated:
            raise ValueError(f"{origin}: there is no {target}")
        if inside in OTHER_PAGES:
            site_page = PAGES / OTHER_PAGES[inside]
        elif inside.startswith("docs/") and not inside.endswith(".py"):
            site_page = PAGES / inside.removeprefix("docs/")
        else:
            return label if label.startswith("`") or " " in label else f"`{label}`"
        link = Path(*[".."] * len(page.parent.relative_to(PAGES).parts)) / site_page.relative_to(PAGES)
        return f"[{label}]({link.as_posix()}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)", replace, text)


def with_math(text: str) -> str:
    """Replace `$$…$$` and `$…$` outside code with MathML, which browsers render without a script."""

    def replace(match):
        code, block, inline = match.groups()
        if code:
            return code
        if block:
            return f'<div class="math">{convert(block.strip(), display="block")}</div>'
        return f"<span>{convert(inline)}</span>"  # Markdown treats a line that starts with <math> as a block.

    return re.sub(r"(```.*?```|`[^`]*`)|\$\$(.+?)\$\$|\$([^$\s](?:[^$\n]*[^$\s])?)\$", replace, text, flags=re.DOTALL)


def commands_page() -> str:
    """A page with the help of every command."""
    lines = ["# Commands", ""]
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=f"keras-recnet {name}", max_content_width=84)
        lines += [f"## `keras-recnet {name}`", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def api_file(title: str) -> str:
    return f"api/{title.lower().replace(' ', '_')}.md"


def api_page(title: str, entries: tuple[str, ...]) -> str:
    """A page with the reference of each entry: a public name, or a module with all its public names."""
    lines = [f"# {title}", ""]
    for entry in (f"keras_recnet.{entry}" for entry in entries):
        parent, _, name = entry.rpartition(".")
        value = getattr(importlib.import_module(parent), name, None) or importlib.import_module(entry)
        if not isinstance(value, ModuleType):
            lines += [f"::: {entry}", ""]
            continue
        if len(entries) > 1:
            lines += [f"## `{entry}`", ""]
        lines += [inspect.getdoc(value), ""]
        lines += [line for name in public_names(value) for line in (f"::: {entry}.{name}", "")]
    return "\n".join(lines)


def public_names(module: ModuleType) -> list[str]:
    """The names of a module's `__all__`; without one, its public functions and classes."""
    return getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def configuration_page() -> str:
    """A table of the keys of each section of a training configuration, from the pydantic schema."""
    lines = [
        "# Configuration keys",
        "",
        "A training configuration is a YAML file. `keras-recnet train CONFIG --set key=value` overrides single keys, "
        "such as `--set optimizer.learning_rate=1e-3`. Unknown keys and values of the wrong type are errors that name "
        "the file, the line and the key. `extends: NAME` starts from another configuration.",
        "",
    ]
    for task, config in loading.CONFIGS.items():
        lines += [f"## `task: {task}`", ""]
        lines += section(config, "")
    return "\n".join(lines)


def section(model, prefix: str) -> list[str]:
    """The table of one section, then those of the sections inside it."""
    text = inspect.getdoc(model) or ""
    described = descriptions(model)
    schema = model.model_json_schema()
    lines = [griffe_text(text), "", "| key | values | default |", "|---|---|---|"]
    if described:
        lines[-2:] = ["| key | values | default | meaning |", "|---|---|---|---|"]
    inner = []
    for key, field in model.model_fields.items():
        child = loading.section_of(field.annotation)
        if child is not None:
            inner += [f"### `{prefix}{key}`", "", *section(child, f"{prefix}{key}.")]
        if field.is_required():
            default = "required"
        elif isinstance(field.default, pydantic.BaseModel):
            default = "see below"
        else:
            default = value_text(field.default)
        kind = "list of mappings" if '"array"' in json.dumps(schema["properties"][key]) else "mapping"
        values = f"{kind}, see below" if child is not None else allowed(schema["properties"][key])
        lines.append(f"| `{key}` | {values} | {default} |" + (f" {described.get(key, '')} |" if described else ""))
    return [*lines, "", *inner]


def descriptions(model) -> dict[str, str]:
    """Descriptions of a section's keys: `Attributes` in docstrings, or the `Args` of the class that it configures."""
    found = {}
    for part in reversed(model.__mro__):
        if issubclass(part, Section):
            found |= parsed(inspect.cleandoc(part.__doc__ or ""), "attributes")
    for name in re.findall(r"`(keras_recnet(?:\.\w+)+)`", inspect.getdoc(model) or ""):
        parent, _, attribute = name.rpartition(".")
        found = {**parsed(inspect.getdoc(getattr(importlib.import_module(parent), attribute)), "parameters"), **found}
    return found


def parsed(text: str, kind: str) -> dict[str, str]:
    sections = griffe.Docstring(text).parse("google", warnings=False)
    items = [item for part in sections if part.kind.value == kind for item in part.value]
    return {item.name: item.description.replace("\n", " ").replace("|", "\\|") for item in items}


def griffe_text(text: str) -> str:
    """A docstring without its sections."""
    parts = griffe.Docstring(text).parse("google", warnings=False)
    return "\n\n".join(part.value for part in parts if part.kind.value == "text")


def allowed(schema: dict) -> str:
    """The values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        return ", ".join(allowed(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(value_text(value) for value in schema["enum"])
    if "const" in schema:
        return value_text(schema["const"])
    kind = schema.get("type")
    if kind == "null":
        return "`null`"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = " and ".join(f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema)
    return " ".join(filter(None, [names.get(kind, schema.get("description", "see the text")), limits]))


def value_text(value) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    main()
