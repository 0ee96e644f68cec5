"""`keras-recnet evaluate`: score maps against masks."""

import dataclasses
import os

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import EXIT_STATUS, FAILED, INTERRUPTED, extra, load_predictor, progress, say
from keras_recnet.errors import DataError

MAX_LISTED = 10  # maximum number of allowed faults to print


@click.command(epilog=EXIT_STATUS)
@click.option("--masks", type=click.Path(), metavar="DIR", help="Folder of masks (object white, background black).")
@click.option("--maps", multiple=True, metavar="[NAME=]DIR", help="A method and the folder of its maps. Repeatable.")
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="[NAME=]PRESET",
    help="Predict the maps of this preset first. Needs --images, and --grouped for co-saliency. Repeatable.",
)
@click.option(
    "--fusion",
    "fusions",
    type=options.Choices(options.FUSIONS),
    metavar="NAME[,NAME…]",
    help=f"Score the RecNet presets with these fusions instead of their own: {', '.join(options.FUSIONS)}.",
)
@click.option(
    "--state",
    "states",
    type=options.Choices(("zero", "other", "reverse")),
    metavar="NAME[,NAME…]",
    help="Also score the co-saliency presets with the group's state zeroed (zero), with the state of the next group "
    "(other), or with the images in reversed order (reverse).",
)
@click.option("--images", type=click.Path(), metavar="DIR", help="Folder of images, for --preset and for the report.")
@click.option("--name", help="Name of the dataset.  [default: from the folder of masks]")
@click.option("--grouped", is_flag=True, help="Each subfolder is a group (co-saliency); add means over groups.")
@click.option(
    "--subgroups",
    "size",
    type=click.IntRange(min=1),
    metavar="K",
    help="Predict and score random subgroups of K images instead of the groups. Needs --grouped and --preset.",
)
@click.option("--draws", type=click.IntRange(min=1), help="Subgroups per group.  [default: 20]")
@click.option("--noise", type=click.IntRange(min=1), metavar="M", help="Add M noise images to each subgroup.")
@click.option("--noise-from", type=click.Path(), metavar="DIR", help="Folder of noise images, scored as distractors.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the subgroups.  [default: 0]")
@click.option("--names", type=click.Path(), metavar="FILE", help="Score only the names in this file, one per line.")
@click.option(
    "--split-seed",
    type=click.IntRange(min=0),
    help="Score half of the images of each group, chosen with this seed, as in `data.split` of a configuration.",
)
@click.option(
    "--part", type=click.Choice(("train", "test")), help="The half to score with --split-seed.  [default: test]"
)
@click.option("--sets", type=click.Path(), metavar="FILE", help="YAML list of datasets; replaces the options above.")
@click.option("-o", "--out", required=True, type=click.Path(), metavar="DIR", help="Output folder.")
@click.option("--published", metavar="SET", help="Add the papers' numbers for this dataset, for example ECSSD.")
@click.option("--ablations", is_flag=True, help="Include the papers' ablations in the published numbers.")
@click.option("--allow-missing", is_flag=True, help="Masks without a map and maps without a mask are not errors.")
@click.option("--common-only", is_flag=True, help="Average only over images for which every method has a map.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Number of scoring processes.")
@click.option(
    "--shard",
    type=options.ShardType(),
    help="Score only part I of N, starting at 0: every N-th image, or with --grouped every N-th group. No report.",
)
@click.option("--merge", is_flag=True, help="Write the report of all shards, which were scored with the same -o.")
def evaluate(
    out,
    presets,
    fusions,
    states,
    sets,
    size,
    draws,
    noise,
    noise_from,
    seed,
    ablations,
    allow_missing,
    common_only,
    jobs,
    shard,
    merge,
    **data_set,
):
    """Score saliency maps against masks and write tables, curves and a report.

    Maps and masks are matched by name, ignoring file suffixes. MAE, F, weighted F, S and E are computed by
    pysodmetrics. OUT contains report.html, metrics.json, metrics.csv, table.md, table.tex, per_image.csv and curves.
    Scores are saved. To resume an interrupted evaluation, run the same command again; it scores only new or changed
    files.

    To use several machines, run the command on each with a different --shard and the same OUT on a shared disk, then
    once with --merge.
    """
    drawing = {"draws": draws, "noise": noise, "noise_from": noise_from, "seed": seed}
    drawing = {name: value for name, value in drawing.items() if value is not None}
    if drawing and size is None:
        raise click.UsageError(f"--{next(iter(drawing)).replace('_', '-')} needs --subgroups.")
    if size is not None and not presets:
        raise click.UsageError("--subgroups needs --preset: maps depend on the images of a group.")
    if shard and merge:
        raise click.UsageError("--shard and --merge cannot be combined: merge when all shards are done.")
    with extra("Evaluation", "evaluation"):
        from keras_recnet.evaluation import preset_maps, run, subgroups
    try:
        data_sets = _data_sets(sets, **data_set)
        if size is not None:
            how = subgroups.Subgroups(size, **{"draws": 20, **drawing})
            data_sets = [subgroups.draw_subgroups(entry, how, out) for entry in data_sets]
        if shard:
            data_sets = _of_shard(data_sets, shard)
        data_sets, faults = preset_maps.predict_maps(
            data_sets,
            presets,
            out,
            fusions=fusions or (),
            states=states or (),
            allow_missing=allow_missing,
            load=load_predictor,
            progress=progress,
        )
        prepared = run.prepare(data_sets, allow_missing=allow_missing, ablations=ablations)
        scoring = {"jobs": jobs, "faults": faults, "progress": progress}
        try:
            if shard:
                return _print_shard(*run.score_shard(prepared, out, shard, **scoring), shard, out)
            evaluation = run.score(prepared, out, common_only=common_only, merge=merge, **scoring)
        except DataError as error:  # a scoring process was killed
            say(f"Error: {error}")
            return FAILED
    except KeyboardInterrupt:
        say("Interrupted. All scores so far are kept; run the same command to resume.")
        return INTERRUPTED
    return _print(evaluation, out)


def _data_sets(sets, masks, maps, images, name, grouped, names, published, split_seed, part):
    from keras_recnet.evaluation import datasets

    if sets is not None:
        given = {"--masks": masks, "--maps": maps, "--images": images, "--name": name}
        given |= {"--grouped": grouped, "--names": names, "--split-seed": split_seed is not None, "--part": part}
        options.refuse_with_sets(sets, given)
        data_sets = datasets.read_list(sets)
        if published and len(data_sets) > 1:
            raise click.UsageError(f"--published needs a single dataset. Use the key `published` in {sets}.")
        return [dataclasses.replace(entry, published=published or entry.published) for entry in data_sets]
    if not masks:
        raise click.UsageError("Missing option '--masks' (or '--sets' with a list of datasets).")
    folders = {}
    for text in maps:
        method, folder = datasets.method_and_folder(text)
        if method in folders:
            raise click.UsageError(f"--maps {text}: two methods are named {method!r}. Rename one of them (NAME=DIR).")
        folders[method] = folder
    name = name or datasets.default_name(masks)
    if part and split_seed is None:
        raise click.UsageError(f"--part {part} needs --split-seed.")
    split = None if split_seed is None else (split_seed, part or "test")
    return [datasets.DataSet(name, masks, folders, images, grouped, published, names, split)]


def _of_shard(data_sets, shard):
    """Return the datasets that have images or groups in the shard."""
    from keras_recnet.evaluation.datasets import masks_of

    data_sets = [dataclasses.replace(entry, shard=shard) for entry in data_sets]
    return [entry for entry in data_sets if entry.selected(masks_of(entry))]


def _print(evaluation, out):
    """Print the tables and the faults, and return the exit status."""
    from keras_recnet.evaluation import tables

    click.echo(tables.markdown(evaluation).encode("utf-8", "replace").decode())
    status = _print_faults(evaluation.faults, os.path.join(out, "metrics.json"))
    say(f"Report: {os.path.join(out, 'report.html')}")
    return status


def _print_shard(count, faults, shard, out):
    """Print the faults of a shard and what to do next, and return the exit status."""
    status = _print_faults(faults)
    say(f"{count} maps scored in shard {shard} -> {out}. When all shards are done, run the command with --merge.")
    return status


def _print_faults(faults, file=None):
    """Print the faults, and return the exit status. `file` lists all of them."""
    allowed = [_line(fault) for fault in faults if fault.allowed]
    not_allowed = [_line(fault) for fault in faults if not fault.allowed]
    if allowed:
        say(f"{len(allowed)} missing (allowed):", *allowed[:MAX_LISTED])
    if len(allowed) > MAX_LISTED:
        say(f"  … and {len(allowed) - MAX_LISTED} more{f', listed in {file}' if file else ''}")
    if not_allowed:
        say(f"{len(not_allowed)} not scored:", *not_allowed)
    return FAILED if not_allowed else 0


def _line(fault):
    method = f" ({fault.method})" if fault.method else ""
    return f"  {fault.kind}{method}: {fault.message}"
