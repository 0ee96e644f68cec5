"""Options that several commands share, and the types of their values."""

import contextlib
import functools
import os

import click

from keras_recnet.cli.running import say
from keras_recnet.parallel import Shard

# the keys of `keras_recnet.layers.fusion.FUSIONS`, which would import Keras
FUSIONS = ("subtract", "foreground", "inverse_background", "average")


def refuse_with_sets(sets: str, given: dict[str, object]) -> None:
    """Raise a `click.UsageError` if `given` (option → value) has an option that `--sets` replaces."""
    for option, value in given.items():
        if value:
            raise click.UsageError(f"{option} cannot be combined with --sets. Move it into {sets}.")


class Choices(click.ParamType):
    """One or more of the valid names, separated by commas."""

    name = "NAME[,NAME…]"

    def __init__(self, choices):
        self.choices = choices

    def convert(self, value, param, ctx):
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in self.choices:
                self.fail(f"must be one or more of {', '.join(self.choices)}. Received: {name!r}", param, ctx)
        return names


class IntegerPair(click.ParamType):
    """Two integers, such as a size."""

    def __init__(self, name, separator, minimum, one_for_both=False):
        self.name, self.separator, self.minimum, self.one_for_both = name, separator, minimum, one_for_both

    def convert(self, value, param, ctx):
        try:
            numbers = tuple(int(part) for part in value.split(self.separator))
        except ValueError:
            numbers = ()
        if len(numbers) == 1 and self.one_for_both:
            numbers *= 2
        if len(numbers) != 2 or min(numbers) < self.minimum:
            self.fail(f"must be {self.name}, integers of at least {self.minimum}. Received: {value!r}", param, ctx)
        return numbers


class ShardType(click.ParamType):
    """`I/N`: one of N disjoint parts of the inputs, counted from 0."""

    name = "I/N"

    def convert(self, value, param, ctx):
        if isinstance(value, Shard):
            return value
        index, _, count = value.partition("/")
        if index.isdecimal() and count.isdecimal() and int(index) < int(count):
            return Shard(int(index), int(count))
        return self.fail(
            f"must be I/N with 0 ≤ I < N: 0/3, 1/3 and 2/3 are the three parts. Received: {value!r}", param, ctx
        )


class Percentage(click.ParamType):
    """A percentage of at least 0, such as 3%, as a fraction."""

    name = "N%"

    def convert(self, value, param, ctx):
        if isinstance(value, float):
            return value
        with contextlib.suppress(ValueError):
            fraction = float(value.removesuffix("%")) / 100
            if value.endswith("%") and 0 <= fraction < float("inf"):
                return fraction
        return self.fail(f"must be a percentage of at least 0%, such as 3%. Received: {value!r}", param, ctx)


class AspectRatio(click.ParamType):
    """`W:H`, such as 4:3, as the number W / H."""

    name = "W:H"

    def convert(self, value, param, ctx):
        width, separator, height = value.partition(":")
        with contextlib.suppress(ValueError, ZeroDivisionError):
            if separator and float(width) > 0 and 0 < (aspect := float(width) / float(height)) < float("inf"):
                return aspect
        return self.fail(f"must be W:H, two positive numbers, such as 4:3. Received: {value!r}", param, ctx)


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
    """`NAME=GLOB`: the name of a group and a pattern of its files."""

    name = "NAME=GLOB"

    def convert(self, value, param, ctx):
        name, separator, pattern = value.partition("=")
        if not separator or not pattern or name in ("", ".", "..") or "/" in name or "\\" in name:
            self.fail(f"must be NAME=GLOB, where NAME is a plain folder name. Received: {value!r}", param, ctx)
        return name, pattern


def types(choices):
    """Return the option `--type` with these output types as choices."""
    return click.option(
        "--type",
        "kinds",
        type=Choices(choices),
        metavar="TYPE[,TYPE…]",
        multiple=True,
        help=f"Outputs to write: {', '.join(choices)}.  [default: mask]",
    )


_DRAWING = {
    "background": click.option(
        "--background", metavar="COLOR|FILE", help="Place the cutout on a color (white, #ff8800) or an image."
    ),
    "threshold": click.option(
        "--threshold",
        type=Threshold(),
        metavar="0…1|adaptive",
        help="Threshold of the binary type; adaptive: twice the mean of the map.  [default: 0.5]",
    ),
    "margin": click.option(
        "--margin",
        type=Percentage(),
        help="Margin of the crop, in percent of the longer side of the object.  [default: 3%]",
    ),
    "aspect": click.option(
        "--aspect", type=AspectRatio(), help="Aspect ratio of the crop, such as 4:3.  [default: that of the object]"
    ),
    "largest": click.option("--largest", is_flag=True, help="Keep only the largest object of each image."),
    "fill_holes": click.option(
        "--fill-holes", is_flag=True, help="Fill holes in the object, such as the opening of a cup's handle."
    ),
}
# option → the output type that it needs
_TYPE_OF = {"background": "cutout", "threshold": "binary", "pixel": "attention", "margin": "crop", "aspect": "crop"}


def drawing(command):
    """Add the options for drawing outputs to a command, which receives their values as the dict `drawing`."""

    @functools.wraps(command)
    def bundled(**values):
        return command(drawing={name: values.pop(name) for name in _DRAWING}, **values)

    for option in reversed(_DRAWING.values()):
        bundled = option(bundled)
    return bundled


engine = click.option(
    "--engine",
    type=click.Choice(("litert", "keras")),
    help="Engine that runs the network.  [default: litert, if the preset has a LiteRT file]",
)
precision = click.option(
    "--precision",
    type=click.Choice(("float16", "int8")),
    default="float16",
    show_default=True,
    help="Precision of the LiteRT engine; int8 is faster and slightly less accurate.",
)
size = click.option(
    "--size",
    type=IntegerPair("N or HxW", "x", 1, True),
    metavar="N|HxW",
    help="Input size of the network; a size other than the preset's needs Keras.",
)
jobs = click.option("--jobs", type=click.IntRange(min=1), help="Images to process in parallel.  [default: cores + 1]")
max_pixels = click.option(
    "--max-pixels", type=click.IntRange(min=1), help="Reject images with more pixels.  [default: 89478485]"
)
skip_existing = click.option("--skip-existing", is_flag=True, help="Skip outputs that already exist.")
shard = click.option(
    "--shard", type=ShardType(), help="Process only part I of N: every N-th image (cosal: group), starting at I = 0."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print a line of JSON per image to stdout.")


def selected_kinds(kinds, drawing):
    """Return the requested output types, each once.

    Args:
        kinds: the values of `--type`.
        drawing: option of a type, such as `threshold` → its value.

    Raises:
        click.UsageError: if an option is given without its type.
    """
    kinds = list(dict.fromkeys(kind for value in kinds for kind in value)) or ["mask"]
    for option, kind in _TYPE_OF.items():
        if drawing.get(option) is not None and kind not in kinds:
            raise click.UsageError(f"--{option} needs --type {kind}.")
    return kinds


def selected_shard(tasks, shard, unit):
    """Return the tasks of a shard; all of them if `shard` is None.

    The tasks are selected after all outputs are planned, so names of files do not depend on the shard.

    Args:
        tasks: list of all tasks.
        shard: the value of `--shard`.
        unit: what a task consists of, in the singular, such as `"image"`.
    """
    if shard is None:
        return tasks
    selected = shard.select(tasks)
    if tasks and not selected:
        say(f"Nothing to do: {len(tasks)} {unit}{'s' * (len(tasks) != 1)}, none of them in shard {shard}.")
    return selected


def check_out(out):
    """Raise a usage error if `out` is an existing file, unless it is an image file."""
    suffixes = (".png", ".jpg", ".jpeg", ".webp")
    if os.path.exists(out) and not os.path.isdir(out) and not out.lower().endswith(suffixes):
        raise click.UsageError(f"-o {out}: this is a file. Choose a folder, or a file NAME.png for a single image.")
