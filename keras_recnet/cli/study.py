"""`keras-recnet study`: train and score the rows of a table of the papers."""

import os
from pathlib import Path

import click

from keras_recnet.cli.options import refuse_with_sets
from keras_recnet.cli.running import EXIT_STATUS, FAILED, INTERRUPTED, extra, progress, say
from keras_recnet.errors import RecNetError


class Seeds(click.ParamType):
    """Seeds, separated by commas."""

    name = "N[,N…]"

    def convert(self, value, param, ctx):
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
            self.fail(f"must be different integers of at least 0, such as 0,1,2. Received: {value!r}", param, ctx)
        return [int(part) for part in parts]


@click.command(epilog=EXIT_STATUS)
@click.argument("name")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), metavar="DIR", help="Output folder.")
@click.option("--config", metavar="CONFIG", help="Configuration of all rows, instead of the study's.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a value of all rows. Repeatable.")
@click.option("--rows", metavar="ROW[,ROW…]", help="Rows to train and score.  [default: all]")
@click.option("--seeds", type=Seeds(), help="Seeds; each row is trained once per seed.  [default: the configuration's]")
@click.option("--masks", type=click.Path(), metavar="DIR", help="Folder of masks of the dataset to score.")
@click.option("--images", type=click.Path(), metavar="DIR", help="Folder of images of the same dataset.")
@click.option("--names", type=click.Path(), metavar="FILE", help="Score only the names in this file, one per line.")
@click.option("--published", metavar="SET", help="Dataset of the published numbers.  [default: the study's]")
@click.option("--sets", type=click.Path(), metavar="FILE", help="YAML list of datasets; replaces the options above.")
@click.option("--noise-from", type=click.Path(), metavar="DIR", help="Folder of the noise images of rcau-groups.")
@click.option("--dry-run", is_flag=True, help="Print the training runs and an estimate of the time, and exit.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Number of scoring processes.")
def study(name, out, config, overrides, rows, seeds, noise_from, dry_run, jobs, **data_set):
    """Train the rows of a study, score them, and compare them with the published numbers.

    NAME is recnet-ablation, recnet-fusion, rcau-ablation, rcau-groups, or a YAML file. OUT contains table.md,
    table.tex, table.csv, plots, the report of the evaluation, and a folder per training run. To resume an interrupted
    study, run the same command again.
    """
    # hides TensorFlow's messages about CPU and GPU libraries at start
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with extra("A study", "tensorflow,evaluation"):
        from keras_recnet.studies import definition, running, runs, writing
    out = Path(out)
    defined = definition.load(name)
    selected = running.select_rows(defined, [row.strip() for row in rows.split(",")] if rows else ())
    planned = runs.plan(defined, out, selected, config=config, overrides=overrides, seeds=seeds or ())
    if dry_run:
        click.echo(running.describe(planned))
        return 0
    try:
        tables, faults = running.run_study(
            defined, selected, planned, _data_sets(**data_set), out, noise_from=noise_from, jobs=jobs, progress=progress
        )
    except (KeyboardInterrupt, SystemExit):
        say("Interrupted. Run the same command to resume.")
        return INTERRUPTED
    except RecNetError as error:
        if not any(run.is_trained for run in planned):
            raise
        say(f"Error: {error}", "Correct this, then run the same command to resume the study.")
        return FAILED
    click.echo("\n".join(map(writing.markdown, tables)))
    if faults:
        messages = dict.fromkeys(fault.message for fault in faults)  # the same for every row
        say(f"{len(messages)} not scored:", *(f"  {message}" for message in messages))
    say(f"Tables, plots and report: {out}")
    return FAILED if faults else 0


def _data_sets(sets, masks, images, names, published):
    from keras_recnet.evaluation import datasets

    if sets is not None:
        refuse_with_sets(sets, {"--masks": masks, "--images": images, "--names": names, "--published": published})
        return datasets.read_list(sets)
    if not masks or not images:
        raise click.UsageError("Missing options '--images' and '--masks' (or '--sets' with a list of datasets).")
    return [datasets.DataSet(datasets.default_name(masks), masks, {}, images, published=published, names=names)]
