"""`keras-recnet predict`: pictures to saliency maps."""

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import loaded, pixel_limit, report, writing_options
from keras_recnet.imaging import KINDS


@click.command()
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

    from keras_recnet.inference.inputs import find_pictures, plan

    found, problems = find_pictures(inputs, outside=out)
    try:
        tasks = plan(found, out, kinds)
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


def _batch(network, **writing):
    from keras_recnet.inference.outputs import Batch
    from keras_recnet.inference.predictor import DEFAULT_PRESET, Predictor

    preset = network.pop("preset") or DEFAULT_PRESET
    return Batch(loaded(Predictor, preset, **network), **writing)
