"""`keras-recnet cosal`: co-saliency maps of groups of images."""

import functools

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import EXIT_STATUS, load_predictor, output_writer, pixel_limit, report
from keras_recnet.imaging import GROUP_KINDS


@click.command(epilog=EXIT_STATUS)
@click.argument("folders", metavar="FOLDER…", nargs=-1)
@click.option("--recursive", is_flag=True, help="Treat each subfolder that contains images as a group.")
@click.option(
    "--group",
    "named",
    type=options.NamedGlob(),
    multiple=True,
    help="Add a group of the files that match a quoted pattern; patterns with the same NAME form one group.",
)
@click.option("-o", "--out", required=True, help="Output folder, or a PNG, JPEG or WebP file for a single sheet.")
@options.types(GROUP_KINDS)
@options.drawing
@click.option(
    "--orders",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Average the group state over this number of image orders.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the random orders of --orders.  [default: 0]")
@click.option("--preset", help="Name or folder of a preset.  [default: rcau_lite0]")
@options.engine
@options.precision
@options.size
@options.jobs
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of the LiteRT engine per image.",
)
@options.max_pixels
@options.skip_existing
@options.shard
@options.as_json
def cosal(
    folders,
    recursive,
    named,
    out,
    kinds,
    drawing,
    orders,
    seed,
    preset,
    jobs,
    max_pixels,
    skip_existing,
    shard,
    as_json,
    **network,
):
    """Predict maps of the objects that a group of images has in common.

    The images directly in a FOLDER form a group. With --recursive, each subfolder that contains images is a
    separate group. Objects that appear in only one image of a group should remain dark.

    A mask, OUT/GROUP/NAME.png, is an 8-bit PNG file of the image's size. Other types are written to
    OUT/GROUP/NAME.TYPE.png. --type sheet draws each image of a group next to its map, in OUT/GROUP.sheet.png. GROUP is
    the name of the folder, with as much of its path as needed to be unique.

    An image that cannot be read is left out of its group. For a group of one image, the map shows what is salient in
    that image alone. Memory does not grow with the size of a group.
    """
    if not folders and not named:
        raise click.UsageError("Missing argument 'FOLDER…' (or --group NAME=GLOB).")
    if seed is not None and orders == 1:
        raise click.UsageError("--seed is for --orders.")
    kinds = options.selected_kinds(kinds, drawing)
    if out == "-":
        raise click.UsageError("-o -: a group is written to a folder, not to standard output.")
    options.check_out(out)

    from keras_recnet.inference import group_inputs

    try:
        groups, problems = group_inputs.find_groups(folders, named, recursive=recursive, outside=out)
        tasks = group_inputs.plan_group_jobs(groups, out, kinds, skip_existing=skip_existing)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    tasks = options.selected_shard(tasks, shard, "group")
    if not tasks:
        return report(None, problems, 0, out=out, as_json=as_json)

    from keras_recnet.inference.group_outputs import write_group_maps
    from keras_recnet.inference.group_predictor import GroupPredictor

    max_pixels = pixel_limit(max_pixels)
    writer = output_writer(max_pixels, skip_existing=skip_existing, **drawing)
    predictor = load_predictor(GroupPredictor, preset, max_pixels=max_pixels, **network)
    run = functools.partial(write_group_maps, predictor, tasks, writer, orders=orders, seed=seed or 0, workers=jobs)
    images = sum(len(task.images) for task in tasks)
    return report(
        run,
        problems,
        images,
        out=out,
        as_json=as_json,
        network=str(predictor),
        written=writer.written,
        groups=len(tasks),
    )
