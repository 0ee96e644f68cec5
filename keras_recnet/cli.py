"""`keras-recnet`: a thin shell over the library. What takes long to import is imported by the command that needs it."""

import json
import sys

import click

from keras_recnet import __version__
from keras_recnet.commands import options
from keras_recnet.commands.bench import bench
from keras_recnet.commands.coco_groups import coco_groups
from keras_recnet.commands.cosal import cosal
from keras_recnet.commands.evaluate import evaluate
from keras_recnet.commands.export import export
from keras_recnet.commands.running import (
    exit_status,
    loaded,
    pixel_limit,
    report,
    writing_options,
)
from keras_recnet.errors import MissingExtraError
from keras_recnet.imaging import KINDS


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    return exit_status(cli, "keras-recnet", arguments)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="keras-recnet")
def cli():
    """Saliency maps of photographs: predict with a network that ships, or train your own."""


@cli.command()
@click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
@click.option(
    "-o", "--out", required=True, help="Folder to write to; or a .png file, or - for stdout, for one picture."
)
@options.types(KINDS)
@options.background
@options.threshold
@click.option(
    "--pixel", type=options.Pair("X,Y", ",", 0), help="Whose attention to draw.  [default: the most salient pixel]"
)
@click.option("--preset", help="Name of a preset that ships, or a preset's folder.  [default: recnet_lite0]")
@options.engine
@options.size
@click.option("--flip", is_flag=True, help="Mean with the mirror image's map: a little better, half as fast.")
@options.jobs
@click.option("--threads", type=click.IntRange(min=1), help="Of the litert engine.  [default: cores]")
@options.max_pixels
@options.skip_existing
@options.as_json
def predict(inputs, out, kinds, background, threshold, pixel, max_pixels, skip_existing, jobs, as_json, **network):
    """Write the saliency maps of pictures.

    INPUT is a file, a folder (searched with its subfolders, whose structure is kept), a quoted pattern such as
    "photos/**/*.jpg", or - for a picture on standard input.

    A mask is an 8-bit PNG of the picture's own size, OUT/NAME.png. The other types go to OUT/NAME.TYPE.png. Where a.jpg
    lies beside a.png, both keep the suffix: OUT/a.jpg.png.

    Exit status: 0 all good; 1 some pictures failed (the others are done, failures are listed at the end), or the disk
    is full; 2 nothing was started: a wrong option, a preset or package that is not there; 130 interrupted.
    """
    kinds = options.chosen_kinds(
        kinds, background=(background, "cutout"), threshold=(threshold, "binary"), pixel=(pixel, "attention")
    )
    if as_json and out == "-":
        raise click.UsageError("--json and a picture (-o -) cannot both go to standard output.")
    options.check_out(out)
    if "attention" in kinds:
        if network["engine"] == "litert":
            raise click.UsageError("--type attention needs --engine keras.")
        network["engine"] = "keras"

    from keras_recnet.imaging import finding

    found, problems = finding.find_pictures(inputs, outside=out)
    try:
        tasks = finding.plan(found, out, kinds)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not tasks:
        return report(None, problems, 0, out=out, as_json=as_json)
    max_pixels = pixel_limit(max_pixels)
    writing = writing_options(max_pixels, threshold, background, skip_existing)
    batch = _batch({**network, "max_pixels": max_pixels}, **writing, pixel=pixel and pixel[::-1])

    def work(advance):
        for result in batch.run(tasks, jobs=jobs):
            advance()
            yield result

    return report(work, problems, len(tasks), done_by=str(batch.predictor), out=out, as_json=as_json)


cli.add_command(cosal)
cli.add_command(evaluate)
cli.add_command(export)
cli.add_command(coco_groups)
cli.add_command(bench)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each preset.")
def presets(as_json):
    """List the presets that ship."""
    from keras_recnet import presets as folder_of_presets

    for preset in folder_of_presets.available():
        config = preset.config
        megabytes = {name: entry["bytes"] / 1e6 for name, entry in config["files"].items()}
        if as_json:
            click.echo(json.dumps({"name": preset.name, "folder": str(preset.folder), **config}))
            continue
        height, width = config["image_size"]
        files = ", ".join(f"{name} {size:.1f} MB" for name, size in megabytes.items())
        click.echo(f"{preset.name}  {config['class']}  {height}×{width}  {files}\n    {preset.folder}")


@cli.command()
@click.argument("config")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change an entry, such as epochs=3.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of this configuration's folder.")
def train(config, overrides, resume):
    """Train as a configuration says.

    CONFIG is a YAML file or the name of a configuration that ships.
    """
    try:
        from keras_recnet.training import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_recnet"):
            raise
        raise MissingExtraError(
            f'Training needs more packages: pip install "keras-recnet[tensorflow]". Missing: {error.name}'
        ) from error
    run.train(config, list(overrides), resume)


def _batch(network, **writing):
    from keras_recnet.batch import Batch
    from keras_recnet.inference import DEFAULT_PRESET, Predictor

    preset = network.pop("preset") or DEFAULT_PRESET
    return Batch(loaded(Predictor, preset, **network), **writing)


if __name__ == "__main__":
    sys.exit(main())
