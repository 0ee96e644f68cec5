"""`keras-recnet evaluate`: maps against masks."""

import contextlib
import dataclasses
import os

import click

from keras_recnet.cli.running import FAILED, INTERRUPTED, NotStarted, loaded, progress, say
from keras_recnet.errors import DataError, MissingExtraError, PresetError


@click.command()
@click.option("--masks", type=click.Path(), metavar="DIR", help="Folder of masks: object white, rest black.")
@click.option("--maps", multiple=True, metavar="NAME=DIR", help="A method and the folder of its maps; may be repeated.")
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="[NAME=]PRESET",
    help="Make this preset's maps of --images first; one for groups needs --grouped.",
)
@click.option(
    "--images", type=click.Path(), metavar="DIR", help="Folder of photographs; without --preset: to be shown."
)
@click.option("--name", help="What tables call the data set.  [default: by the folder of masks]")
@click.option("--grouped", is_flag=True, help="Every sub-folder is a group (co-saliency): mean over groups as well.")
@click.option("--names", type=click.Path(), metavar="FILE", help="Score only the names in this file, one a line.")
@click.option("--sets", type=click.Path(), metavar="FILE", help="A YAML list of data sets, instead of the above.")
@click.option("-o", "--out", required=True, type=click.Path(), metavar="DIR", help="Folder to write to.")
@click.option("--published", metavar="SET", help="Show the papers' numbers for this data set beside, such as ECSSD.")
@click.option("--ablations", is_flag=True, help="With published numbers: those of the papers' ablations, too.")
@click.option("--allow-missing", is_flag=True, help="Masks without a map, and the reverse, are no error.")
@click.option("--common-only", is_flag=True, help="Take means over the images that every method has.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that score.")
def evaluate(out, presets, sets, ablations, allow_missing, common_only, jobs, **one_set):
    """Score maps against masks: tables, curves and a report.

    A map belongs to the mask of the same name, whatever their suffixes. MAE, F, weighted F, S and E are pysodmetrics'.
    OUT gets report.html, metrics.json, metrics.csv, table.md, table.tex, per_image.csv and curves. What was scored is
    kept: the same command goes on after a kill, and scores anew only what has changed.

    Exit status: 0 all good; 1 some files were not scored (the others are, and each is named at the end), or the disk
    is full; 2 nothing was started: a wrong option, an empty folder, a package that is not there; 130 interrupted.
    """
    try:
        from keras_recnet.evaluation import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_recnet"):
            raise
        raise MissingExtraError(
            f'Evaluation needs more packages: pip install "keras-recnet[evaluation]". Missing: {error.name}'
        ) from error
    try:
        try:
            data_sets, faults = _make_maps(_data_sets(sets, **one_set), presets, out, allow_missing)
            prepared = run.prepare(data_sets, allow_missing=allow_missing, ablations=ablations)
        except (DataError, PresetError) as error:
            raise NotStarted(str(error)) from error
        evaluation = run.score(prepared, out, jobs=jobs, common_only=common_only, faults=faults, progress=progress)
    except KeyboardInterrupt:
        say("Interrupted. What was scored is kept: the same command goes on.")
        return INTERRUPTED
    return _tell(evaluation, out)


def _data_sets(sets, masks, maps, images, name, grouped, names, published):
    from keras_recnet.evaluation import datasets as data_sets

    if sets is not None:
        given = {"--masks": masks, "--maps": maps, "--images": images, "--name": name}
        given |= {"--grouped": grouped, "--names": names}
        for option, value in given.items():
            if value:
                raise click.UsageError(f"{option} belongs into the list {sets} when there is --sets.")
        found = data_sets.read_list(sets)
        if published and len(found) > 1:
            raise click.UsageError(f"--published is for one data set; in {sets} each entry has a key of this name.")
        return [dataclasses.replace(one, published=published or one.published) for one in found]
    if not masks:
        raise click.UsageError("Missing option '--masks' (or '--sets' with a list of data sets).")
    folders = {}
    for text in maps:
        method, folder = data_sets.method_and_folder(text)
        if method in folders:
            raise click.UsageError(f"--maps {text}: two methods are called {method!r}. Name them NAME=DIR.")
        folders[method] = folder
    name = name or data_sets.default_name(masks)
    return [data_sets.DataSet(name, masks, folders, images, grouped, published, names)]


def _make_maps(data_sets, presets, out, allow_missing):
    """Writes the presets' maps below OUT/maps; gives the data sets with these folders, and what could not be made."""
    from keras_recnet.evaluation import preset_maps

    if not presets and not all(one.maps for one in data_sets):
        raise click.UsageError("Nothing to score: give --maps NAME=DIR, or --preset with --images.")
    faults = []
    for text in presets:
        name, _, preset = text.rpartition("=")
        batch = None
        for place, data_set in enumerate(data_sets):
            made = preset_maps.plan(data_set, preset, out, name=name or None, allow_missing=allow_missing)
            data_sets[place] = made.data_set
            faults += made.faults
            if not made.tasks:
                continue
            batch = batch or _batch(preset, made.of_groups)
            with progress(made.pictures) as advance, contextlib.closing(batch.run(made.tasks)) as results:
                for result in results:
                    if result.error:
                        faults.append(preset_maps.failed(made, result.error))
                    advance()
    return data_sets, faults


def _batch(preset, of_groups):
    if of_groups:
        from keras_recnet.inference.group_outputs import GroupBatch
        from keras_recnet.inference.group_predictor import GroupPredictor

        return GroupBatch(loaded(GroupPredictor, preset))
    from keras_recnet.inference.outputs import Batch
    from keras_recnet.inference.predictor import Predictor

    return Batch(loaded(Predictor, preset))


def _tell(evaluation, out):
    """Prints the tables and what was not scored, and returns the exit status."""
    from keras_recnet.evaluation import tables

    click.echo(tables.markdown(evaluation).encode("utf-8", "replace").decode())
    for allowed, title in ((True, "missing (allowed)"), (False, "not scored")):
        faults = [fault for fault in evaluation.faults if fault.allowed == allowed]
        if faults:
            who = (f"  {fault.kind}{f' ({fault.method})' if fault.method else ''}: {fault.message}" for fault in faults)
            say(f"{len(faults)} {title}:", *who)
    say(f"Report: {os.path.join(out, 'report.html')}")
    return 0 if evaluation.good else FAILED
