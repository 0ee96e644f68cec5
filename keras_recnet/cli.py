"""`keras-recnet`: a thin shell over the library. What takes long to import is imported by the command that needs it."""

import contextlib
import dataclasses
import itertools
import json
import os
import sys
import time

import click

from keras_recnet import __version__
from keras_recnet.errors import ConfigError, DataError, DiskError, MissingExtraError, PresetError, RecNetError
from keras_recnet.imaging import KINDS

FAILED, NOT_STARTED, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    try:
        return cli.main(arguments, prog_name="keras-recnet", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except RecNetError as error:
        click.echo(f"Error: {error}", err=True)
        return NOT_STARTED if isinstance(error, ConfigError | MissingExtraError) else FAILED


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="keras-recnet")
def cli():
    """Saliency maps of photographs: predict with a network that ships, or train your own."""


class _NotStarted(click.ClickException):
    exit_code = NOT_STARTED


class _Kinds(click.ParamType):
    name = "TYPE[,TYPE…]"

    def convert(self, value, param, ctx):
        kinds = [kind.strip() for kind in value.split(",")]
        for kind in kinds:
            if kind not in KINDS:
                self.fail(f"must be one or several of {', '.join(KINDS)}. Received: {kind!r}", param, ctx)
        return kinds


class _Pair(click.ParamType):
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


class _Threshold(click.ParamType):
    name = "0…1|adaptive"

    def convert(self, value, param, ctx):
        if value == "adaptive":
            return value
        with contextlib.suppress(ValueError):
            if 0.0 <= float(value) <= 1.0:
                return float(value)
        return self.fail(f"must be a number in 0…1 or 'adaptive'. Received: {value!r}", param, ctx)


@cli.command()
@click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
@click.option(
    "-o", "--out", required=True, help="Folder to write to; or a .png file, or - for stdout, for one picture."
)
@click.option("--type", "kinds", type=_Kinds(), multiple=True, help=f"{', '.join(KINDS)}.  [default: mask]")
@click.option("--background", metavar="COLOR|FILE", help="Lay the cutout over a colour (white, #ff8800) or a picture.")
@click.option(
    "--threshold",
    type=_Threshold(),
    metavar="0…1|adaptive",
    help="Of binary; adaptive is twice the map's mean.  [default: 0.5]",
)
@click.option("--pixel", type=_Pair("X,Y", ",", 0), help="Whose attention to draw.  [default: the most salient pixel]")
@click.option("--preset", help="Name of a preset that ships, or a preset's folder.  [default: recnet_lite0]")
@click.option("--engine", type=click.Choice(("litert", "keras")), help="[default: litert, if the preset has its file]")
@click.option(
    "--size",
    type=_Pair("N or HxW", "x", 1, True),
    metavar="N|HxW",
    help="The network's input; other than the preset's: keras.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Pictures worked on at once.  [default: cores + 1]")
@click.option("--threads", type=click.IntRange(min=1), help="Of the litert engine.  [default: cores]")
@click.option("--max-pixels", type=click.IntRange(min=1), help="Refuse larger pictures.  [default: 89478485]")
@click.option("--skip-existing", is_flag=True, help="Leave out what is there already.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each picture on stdout.")
def predict(inputs, out, kinds, background, threshold, pixel, max_pixels, skip_existing, jobs, as_json, **network):
    """Write the saliency maps of pictures.

    INPUT is a file, a folder (searched with its subfolders, whose structure is kept), a quoted pattern such as
    "photos/**/*.jpg", or - for a picture on standard input.

    A mask is an 8-bit PNG of the picture's own size, OUT/NAME.png. The other types go to OUT/NAME.TYPE.png. Where a.jpg
    lies beside a.png, both keep the suffix: OUT/a.jpg.png.

    Exit status: 0 all good; 1 some pictures failed (the others are done, failures are listed at the end), or the disk
    is full; 2 nothing was started: a wrong option, a preset or package that is not there; 130 interrupted.
    """
    kinds = list(dict.fromkeys(kind for group in kinds for kind in group)) or ["mask"]
    for option, value, kind in (
        ("--background", background, "cutout"),
        ("--threshold", threshold, "binary"),
        ("--pixel", pixel, "attention"),
    ):
        if value is not None and kind not in kinds:
            raise click.UsageError(f"{option} needs --type {kind}.")
    if as_json and out == "-":
        raise click.UsageError("--json and a picture (-o -) cannot both go to standard output.")
    if os.path.exists(out) and not os.path.isdir(out) and not out.lower().endswith(".png"):
        raise click.UsageError(f"-o {out}: a file stands there. Choose a folder, or a .png file for one picture.")
    if "attention" in kinds:
        if network["engine"] == "litert":
            raise click.UsageError("--type attention needs --engine keras.")
        network["engine"] = "keras"

    from keras_recnet.imaging import finding, reading

    found, problems = finding.find_pictures(inputs, outside=out)
    try:
        tasks = finding.plan(found, out, kinds)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    max_pixels = max_pixels or reading.MAX_PIXELS
    reading.leave_pixel_limit_to_read(max_pixels)
    batch = None
    if tasks:
        try:
            batch = _batch(
                {**network, "max_pixels": max_pixels},
                threshold=0.5 if threshold is None else threshold,
                background=_background(background, max_pixels),
                pixel=pixel and pixel[::-1],
                skip_existing=skip_existing,
            )
        except RecNetError as error:
            raise _NotStarted(str(error)) from error
    return _run(batch, tasks, problems, out, jobs, as_json)


@cli.command()
@click.option("--masks", type=click.Path(), metavar="DIR", help="Folder of masks: object white, rest black.")
@click.option("--maps", multiple=True, metavar="NAME=DIR", help="A method and the folder of its maps; may be repeated.")
@click.option("--preset", "presets", multiple=True, metavar="PRESET", help="Make this preset's maps of --images first.")
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
            raise _NotStarted(str(error)) from error
        evaluation = run.score(prepared, out, jobs=jobs, common_only=common_only, faults=faults, progress=_progress)
    except KeyboardInterrupt:
        _say("Interrupted. What was scored is kept: the same command goes on.")
        return INTERRUPTED
    return _tell(evaluation, out)


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


@cli.command("coco-groups")
@click.argument("annotations", type=click.Path(exists=True, dir_okay=False))
@click.argument("images", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), help="Folder to write to.")
@click.option("--categories", metavar="NAME[,NAME…]", help="Of these alone.  [default: all]")
@click.option("--group-size", type=click.IntRange(min=2), default=5, show_default=True, help="Images a group.")
@click.option("--images", "most_images", type=click.IntRange(min=1), default=9213, show_default=True, help="At most.")
@click.option("--groups", "most_groups", type=click.IntRange(min=1), help="At most.  [default: one for each mask]")
@click.option(
    "--area",
    type=click.FloatRange(0, 1),
    nargs=2,
    default=(0.05, 0.7),
    metavar="LEAST LARGEST",
    show_default=True,
    help="Part of an image that a category may fill.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--jobs", "workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
def coco_groups(annotations, images, out, categories, **options):
    """Make training groups for co-saliency from COCO's images.

    ANNOTATIONS is a JSON file such as instances_train2017.json, IMAGES the folder of its images. A group is an image
    and those of the same category that look most like it as a whole. OUT gets groups.csv, images and masks. A run that
    was stopped goes on where it was.

    Exit status: 0 all good; 1 some images or annotations could not be used (the rest is done, they are listed), or
    nothing could be made; 2 nothing was started; 130 interrupted.
    """
    if options["area"][0] > options["area"][1]:
        raise click.UsageError(f"--area must be the smaller part first. Received: {options['area']}")

    from keras_recnet import pipelines

    options["categories"] = categories and [name.strip() for name in categories.split(",")]
    try:
        with pipelines.stage_bars() as progress:
            made = pipelines.make_coco_groups(annotations, images, out, progress=progress, **options)
    except ModuleNotFoundError as error:
        if error.name != "pycocotools":
            raise
        raise MissingExtraError(str(error)) from error
    except pipelines.PipelineDataError as error:
        raise DataError(str(error)) from error
    except KeyboardInterrupt:
        _say("Interrupted. Start the same command again: it goes on where it was.")
        return INTERRUPTED
    _say(
        *(f"Note: {note}" for note in made.notes),
        f"{sum(made.groups.values())} groups of {len(made.groups)} categories, {made.images} images -> {made.list}",
    )
    if made.problems:
        _say(f"{len(made.problems)} left out:", *(f"  {problem}" for problem in made.problems))
    return FAILED if made.problems else 0


def _batch(network, **options):
    from keras_recnet.batch import Batch
    from keras_recnet.inference import DEFAULT_PRESET, Predictor

    with _quiet_start():
        predictor = Predictor(network.pop("preset") or DEFAULT_PRESET, **network)
    if predictor.engine_note:
        click.echo(f"Note: {predictor.engine_note}", err=True)
    return Batch(predictor, **options)


def _data_sets(sets, masks, maps, images, name, grouped, names, published):
    from keras_recnet.evaluation import sets as data_sets

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
    from keras_recnet.evaluation import making

    if not presets and not all(one.maps for one in data_sets):
        raise click.UsageError("Nothing to score: give --maps NAME=DIR, or --preset with --images.")
    faults = []
    for preset in presets:
        batch = None
        for place, data_set in enumerate(data_sets):
            made = making.plan(data_set, preset, out, allow_missing=allow_missing)
            data_sets[place] = made.data_set
            faults += made.faults
            if not made.tasks:
                continue
            batch = batch or _batch({"preset": preset, "engine": None})
            with _progress(len(made.tasks)) as advance, contextlib.closing(batch.run(made.tasks)) as results:
                for result in results:
                    if result.error:
                        faults.append(making.failed(made, result.error))
                    advance()
    return data_sets, faults


def _tell(evaluation, out):
    """Prints the tables and what was not scored, and returns the exit status."""
    from keras_recnet.evaluation import tables

    click.echo(tables.markdown(evaluation).encode("utf-8", "replace").decode())
    for allowed, title in ((True, "missing (allowed)"), (False, "not scored")):
        faults = [fault for fault in evaluation.faults if fault.allowed == allowed]
        if faults:
            who = (f"  {fault.kind}{f' ({fault.method})' if fault.method else ''}: {fault.message}" for fault in faults)
            _say(f"{len(faults)} {title}:", *who)
    _say(f"Report: {os.path.join(out, 'report.html')}")
    return 0 if evaluation.good else FAILED


def _background(text, max_pixels):
    if text is None:
        return None
    from PIL import ImageColor

    from keras_recnet.imaging.reading import read

    try:
        return ImageColor.getcolor(text, "RGB")
    except ValueError:
        if not os.path.exists(text):
            raise click.UsageError(f"--background {text}: neither a colour (white, #ff8800) nor a file.") from None
        return read(text, max_pixels=max_pixels).rgb


def _run(batch, tasks, problems, out, jobs, as_json):
    """Does the tasks, says what became of them, and returns the exit status."""
    from keras_recnet.batch import Result

    start, total = time.perf_counter(), len(tasks) + len(problems)
    done, failures = 0, []
    results = (Result(source, {}, error=error) for source, error in problems)
    work = batch.run(tasks, jobs=jobs) if batch else (nothing for nothing in ())
    try:
        with _progress(total) as advance, contextlib.closing(work):
            for result in itertools.chain(results, work):
                advance()
                if as_json:
                    click.echo(json.dumps(result.as_json()))
                if result.error:
                    failures.append(result.error)
                else:
                    done += 1
    except KeyboardInterrupt:
        _say(f"Interrupted after {done} of {total} pictures. What is written is whole; go on with --skip-existing.")
        return INTERRUPTED
    except DiskError as error:
        _say(f"Error: {error} Stopped after {done} of {total} pictures.")
        return FAILED
    if batch and out != "-":
        seconds = time.perf_counter() - start
        _say(f"{done} of {total} pictures in {seconds:.1f} s ({batch.predictor}) -> {out}")
    if failures:
        _say(f"{len(failures)} failed:", *(f"  {failure}" for failure in failures))
    return FAILED if failures else 0


def _say(*lines):
    # File names that are no UTF-8 come as surrogates, which a terminal refuses.
    click.echo("\n".join(lines).encode("utf-8", "replace").decode(), err=True)


@contextlib.contextmanager
def _progress(total):
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def _quiet_start():
    # LiteRT and TensorFlow greet on stderr, below Python, and know no switch for it. Errors come as exceptions.
    try:
        stderr = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # replaced by something that is no file
        yield
        return
    sys.stderr.flush()
    kept = os.dup(stderr)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stderr)
        yield
    finally:
        os.dup2(kept, stderr)
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
