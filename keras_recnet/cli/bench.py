"""`keras-recnet bench`: networks beside each other, timed in turns."""

import json
import sys
import tempfile
from pathlib import Path

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import FAILED, INTERRUPTED, NotStarted, progress, say
from keras_recnet.errors import RecNetError

ENGINES, PRECISIONS = ("litert", "keras", "savedmodel"), ("float16", "float32")


@click.command()
@click.argument("target", metavar="PRESET_OR_FOLDER")
@click.option(
    "--engine",
    "engines",
    type=options.Choices(ENGINES),
    metavar="ENGINE[,ENGINE…]",
    help=f"{', '.join(ENGINES)}.  [default: litert and keras, or what the folder holds]",
)
@click.option(
    "--precision",
    "precisions",
    type=options.Choices(PRECISIONS),
    metavar="PRECISION[,PRECISION…]",
    help=f"{', '.join(PRECISIONS)}.  [default: that of the files; keras, savedmodel: float32]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Of every contestant.  [default: cores]")
@click.option("--against", multiple=True, metavar="FILE.onnx", help="Run this model beside; may be repeated.")
@click.option(
    "--against-size",
    type=options.IntegerPair("N or HxW", "x", 1, True),
    metavar="N|HxW",
    help="Its input, if the file leaves that open.",
)
@click.option("--rate", is_flag=True, help="GFLOP/s, and those of a float32 matrix product in TensorFlow beside.")
@click.option(
    "--matrix", type=click.IntRange(min=1), default=4096, show_default=True, help="Rows and columns in that product."
)
@click.option("--runs", type=click.IntRange(min=1), default=30, show_default=True, help="Timed runs of each network.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Instead of --runs: so long in all.")
@click.option(
    "--burst",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Pictures at a time that the throughput is measured on; 0: it is not.",
)
@options.size
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, with every time, instead of a table.")
@click.pass_context
def bench(
    context,
    target,
    engines,
    precisions,
    threads,
    against,
    against_size,
    rate,
    matrix,
    runs,
    seconds,
    burst,
    size,
    as_json,
):
    """Measure latency, throughput, memory and size of a network.

    PRESET_OR_FOLDER is the name of a preset that ships, a preset's folder, or a folder that `keras-recnet export`
    wrote. Engines and precisions that a preset has no file of are made first, in a temporary folder.

    Each contestant is loaded in a process of its own. They run in turns, one run each, over and over, while the others
    hold still: so what else the machine does hits all alike, and ratios hold though it is busy. A run is the network
    alone, on one picture that is decoded and of its size.

    Exit status: 0 all good; 1 a contestant failed (the others were measured, the failed are named at the end); 2
    nothing was started: a wrong option, a preset, file or package that is not there; 130 interrupted (what was measured
    so far is printed).
    """
    if context.get_parameter_source("matrix").name == "COMMANDLINE" and not rate:
        raise click.UsageError("--matrix needs --rate.")
    if seconds is not None and context.get_parameter_source("runs").name == "COMMANDLINE":
        raise click.UsageError("--runs and --seconds say the same in two ways: give one of them.")
    if against_size and not against:
        raise click.UsageError("--against-size needs --against.")

    from keras_recnet.bench import candidates, discovery
    from keras_recnet.bench.benchmark import Race, Rules
    from keras_recnet.parallel import cores

    rules = Rules(threads or cores(), runs=runs, seconds=seconds, burst=burst, count_operations=rate)
    race, interrupted = None, False
    with tempfile.TemporaryDirectory() as workspace:
        try:
            others = [candidates.peer(file, against_size) for file in against]
            others += [candidates.product(matrix)] if rate else []
            choice = {"engines": engines, "precisions": precisions, "size": size}
            ours = discovery.find(target, **choice, workspace=Path(workspace), say=say)
            race = Race([*ours, *others], rules)
            with progress(runs if seconds is None else 0) as advance:
                race.run(advance)
        except KeyboardInterrupt:
            interrupted = True
        except RecNetError as error:
            raise NotStarted(str(error)) from error
    return _tell(race.results if race else [], rules, as_json, interrupted)


def _tell(results, rules, as_json, interrupted):
    """Prints what was measured, and what failed, and returns the exit status."""
    from keras_recnet.bench import table
    from keras_recnet.bench.report import report

    measured = report(results, rules, interrupted=interrupted)
    if as_json:
        click.echo(json.dumps(measured, indent=2))
    elif any(result.seconds for result in results):
        _print_table(table, measured)
    if interrupted:
        say("Interrupted. The numbers are of the runs until then." if results else "Interrupted.")
        return INTERRUPTED
    failed = [result.error for result in results if result.error]
    if failed:
        say(f"{len(failed)} failed:", *(f"  {error}" for error in failed))
    return FAILED if failed else 0


def _print_table(table, measured):
    heads, rows = table.cells(measured)
    click.echo(table.heading(measured))
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(table.rich(heads, rows))
    else:
        click.echo(f"\n{table.plain(heads, rows)}\n")
    click.echo("\n".join(table.notes(measured)))
