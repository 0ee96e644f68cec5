"""`keras-recnet cosal`: groups of pictures to co-saliency maps."""

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import loaded, pixel_limit, report, writing_options
from keras_recnet.imaging import GROUP_KINDS


@click.command()
@click.argument("folders", metavar="FOLDER…", nargs=-1)
@click.option("--recursive", is_flag=True, help="Each sub-folder with pictures is a group.")
@click.option(
    "--group",
    "named",
    type=options.NamedGlob(),
    multiple=True,
    help="A group of the files that a quoted pattern finds; the same NAME again adds to it.",
)
@click.option("-o", "--out", required=True, help="Folder to write to; or a .png file, for one sheet.")
@options.types(GROUP_KINDS)
@options.background
@options.threshold
@click.option(
    "--orders",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Average the group's state over so many orders of its pictures.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random orders.")
@click.option("--preset", help="Name of a preset that ships, or a preset's folder.  [default: rcau_lite0]")
@options.engine
@options.size
@options.jobs
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Of the litert engine, a picture.  [default: 1]")
@options.max_pixels
@options.skip_existing
@options.as_json
def cosal(
    folders,
    recursive,
    named,
    out,
    kinds,
    background,
    threshold,
    orders,
    seed,
    jobs,
    max_pixels,
    skip_existing,
    as_json,
    **network,
):
    """Write maps of what the pictures of a group have in common.

    A FOLDER is a group: the pictures that lie in it. With --recursive every folder below that holds pictures is a group
    of its own. What only one of the pictures shows should stay dark in the maps.

    A picture's mask is an 8-bit PNG of its own size, OUT/GROUP/NAME.png; the other types go to
    OUT/GROUP/NAME.TYPE.png, and --type sheet draws the whole group, each picture beside its map, into
    OUT/GROUP.sheet.png. GROUP is the folder's name, with as much of its path as tells it from the others.

    A picture that cannot be read is left out of its group. A group of one picture works: its map is what is salient in
    it alone. Groups may be of any size: memory is that of a few pictures.

    Exit status: 0 all good; 1 some pictures failed (the others are done, failures are listed at the end), or the disk
    is full; 2 nothing was started: a wrong option, a preset or package that is not there; 130 interrupted.
    """
    if not folders and not named:
        raise click.UsageError("Missing argument 'FOLDER…' (or --group NAME=GLOB).")
    kinds = options.chosen_kinds(kinds, background=(background, "cutout"), threshold=(threshold, "binary"))
    if out == "-":
        raise click.UsageError("-o -: a group is written to a folder, not to standard output.")
    options.check_out(out)

    from keras_recnet.inference import group_inputs

    try:
        groups, problems = group_inputs.find_groups(folders, named, recursive=recursive, outside=out)
        groups = group_inputs.plan_groups(groups, out, kinds)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not groups:
        return report(None, problems, 0, out=out, as_json=as_json)

    from keras_recnet.inference.group_outputs import GroupBatch
    from keras_recnet.inference.group_predictor import DEFAULT_GROUP_PRESET, GroupPredictor

    max_pixels = pixel_limit(max_pixels)
    writing = writing_options(max_pixels, threshold, background, skip_existing)
    predictor = loaded(GroupPredictor, network.pop("preset") or DEFAULT_GROUP_PRESET, max_pixels=max_pixels, **network)
    batch = GroupBatch(predictor, **writing, orders=orders, seed=seed)
    return report(
        lambda advance: batch.run(groups, jobs=jobs, progress=advance),
        problems,
        sum(len(group.tasks) for group in groups),
        done_by=str(predictor),
        out=out,
        as_json=as_json,
        in_groups=len(groups),
    )
