"""Options that several commands have, and their types."""

import contextlib
import os

import click


class Kinds(click.ParamType):
    """Types of output, several in one value."""

    name = "TYPE[,TYPE…]"

    def __init__(self, known):
        self.known = known

    def convert(self, value, param, ctx):
        kinds = [kind.strip() for kind in value.split(",")]
        for kind in kinds:
            if kind not in self.known:
                self.fail(f"must be one or several of {', '.join(self.known)}. Received: {kind!r}", param, ctx)
        return kinds


class Pair(click.ParamType):
    """Two whole numbers, such as a size."""

    def __init__(self, name, separator, least, one_for_both=False):
        self.name, self.separator, self.least, self.one_for_both = name, separator, least, one_for_both

    def convert(self, value, param, ctx):
        try:
            numbers = tuple(int(part) for part in value.split(self.separator))
        except ValueError:
            numbers = ()
        if len(numbers) == 1 and self.one_for_both:
            numbers *= 2
        if len(numbers) != 2 or min(numbers) < self.least:
            self.fail(f"must be {self.name} in whole numbers from {self.least}. Received: {value!r}", param, ctx)
        return numbers


class Threshold(click.ParamType):
    """A number in 0…1, or "adaptive"."""

    name = "0…1|adaptive"

    def convert(self, value, param, ctx):
        if value == "adaptive":
            return value
        with contextlib.suppress(ValueError):
            if 0.0 <= float(value) <= 1.0:
                return float(value)
        return self.fail(f"must be a number in 0…1 or 'adaptive'. Received: {value!r}", param, ctx)


class NamedGlob(click.ParamType):
    """`NAME=GLOB`, the name of a folder and a pattern of files."""

    name = "NAME=GLOB"

    def convert(self, value, param, ctx):
        name, separator, pattern = value.partition("=")
        if not separator or not pattern or name in ("", ".", "..") or "/" in name or "\\" in name:
            self.fail(f"must be NAME=GLOB, with the plain name of a folder. Received: {value!r}", param, ctx)
        return name, pattern


def types(known):
    """`--type`, of the types that a command knows."""
    return click.option(
        "--type", "kinds", type=Kinds(known), multiple=True, help=f"{', '.join(known)}.  [default: mask]"
    )


background = click.option(
    "--background", metavar="COLOR|FILE", help="Lay the cutout over a colour (white, #ff8800) or a picture."
)
threshold = click.option(
    "--threshold",
    type=Threshold(),
    metavar="0…1|adaptive",
    help="Of binary; adaptive is twice the map's mean.  [default: 0.5]",
)
engine = click.option(
    "--engine", type=click.Choice(("litert", "keras")), help="[default: litert, if the preset has its file]"
)
size = click.option(
    "--size",
    type=Pair("N or HxW", "x", 1, True),
    metavar="N|HxW",
    help="The network's input; other than the preset's: keras.",
)
jobs = click.option("--jobs", type=click.IntRange(min=1), help="Pictures worked on at once.  [default: cores + 1]")
max_pixels = click.option(
    "--max-pixels", type=click.IntRange(min=1), help="Refuse larger pictures.  [default: 89478485]"
)
skip_existing = click.option("--skip-existing", is_flag=True, help="Leave out what is there already.")
as_json = click.option("--json", "as_json", is_flag=True, help="A line of JSON for each picture on stdout.")


def chosen_kinds(kinds, **needs):
    """The types asked for, each once; refuses an option whose type is not among them.

    Args:
        kinds: what `--type` gave.
        **needs: option → (its value, the type that it belongs to).
    """
    kinds = list(dict.fromkeys(kind for several in kinds for kind in several)) or ["mask"]
    for option, (value, kind) in needs.items():
        if value is not None and kind not in kinds:
            raise click.UsageError(f"--{option} needs --type {kind}.")
    return kinds


def check_out(out):
    """Refuses a file where the folder to write to should be."""
    if os.path.exists(out) and not os.path.isdir(out) and not out.lower().endswith(".png"):
        raise click.UsageError(f"-o {out}: a file stands there. Choose a folder, or a .png file for one picture.")
