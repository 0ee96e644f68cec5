"""`keras-recnet bench`: compare the speed, memory and size of networks."""

import json
import sys
import tempfile
from pathlib import Path

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import EXIT_STATUS, FAILED, INTERRUPTED, NotStarted, progress, say
from keras_recnet.errors import RecNetError

ENGINES, PRECISIONS = ("litert", "keras", "savedmodel"), ("float16", "float32", "int8")


@click.command(epilog=EXIT_STATUS)
@click.argument("target", metavar="PRESET_OR_FOLDER")
@click.option(
    "--engine",
    "engines",
    type=options.Choices(ENGINES),
    metavar="ENGINE[,ENGINE…]",
    help=f"{', '.join(ENGINES)}.  [default: litert and, if installed, keras; or the engine of the export]",
)
@click.option(
    "--precision",
    "precisions",
    type=options.Choices(PRECISIONS),
    metavar="PRECISION[,PRECISION…]",
    help=f"{', '.join(PRECISIONS)}.  [default: that of the files; float32 for keras and savedmodel]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads per network.  [default: cores]")
@click.option("--against", multiple=True, metavar="FILE.onnx", help="Compare with this ONNX model. Repeatable.")
@click.option(
    "--against-size",
    type=options.IntegerPair("N or HxW", "x", 1, True),
    metavar="N|HxW",
    help="Input size of the ONNX model, if it is not fixed in the file.",
)
@click.option("--rate", is_flag=True, help="Add GFLOP/s, compared with a float32 matrix product in TensorFlow.")
@click.option(
    "--matrix",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Rows and columns of the matrices for --rate.",
)
@click.option("--runs", type=click.IntRange(min=1), default=30, show_default=True, help="Timed runs per network.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Total duration, instead of --runs.")
@click.option(
    "--burst",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Images per throughput measurement; 0 skips it.",
)
@options.size
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all timings instead of a table.")
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

    PRESET_OR_FOLDER is the name or folder of a preset, or a folder written by `keras-recnet export`. If a preset has no
    file for an engine or precision, the preset is exported to a temporary folder first.

    Each network runs in its own process. The processes take turns, one run at a time, so that the system load affects
    all networks equally. A run is timed on one decoded image of the input size, without reading or resizing.
    """
    if context.get_parameter_source("matrix").name == "COMMANDLINE" and not rate:
        raise click.UsageError("--matrix needs --rate.")
    if seconds is not None and context.get_parameter_source("runs").name == "COMMANDLINE":
        raise click.UsageError("--runs and --seconds cannot be combined.")
    if against_size and not against:
        raise click.UsageError("--against-size needs --against.")

    from keras_recnet.bench import candidates, discovery
    from keras_recnet.bench.benchmark import Benchmark, Settings
    from keras_recnet.parallel import cores

    settings = Settings(threads or cores(), runs=runs, seconds=seconds, burst=burst, count_operations=rate)
    benchmark, interrupted = None, False
    with tempfile.TemporaryDirectory() as workspace:
        try:
            others = [candidates.peer(file, against_size) for file in against]
            others += [candidates.product(matrix)] if rate else []
            requested = {"engines": engines, "precisions": precisions, "size": size}
            own = discovery.find(target, **requested, workspace=Path(workspace), log=say)
            benchmark = Benchmark([*own, *others], settings)
            with progress(runs if seconds is None else 0) as advance:
                benchmark.run(advance)
        except KeyboardInterrupt:
            interrupted = True
        except RecNetError as error:
            raise NotStarted(str(error)) from error
    return _print(benchmark.results if benchmark else [], settings, as_json, interrupted)


def _print(results, settings, as_json, interrupted):
    """Print the measurements and the failures, and return the exit status."""
    from keras_recnet.bench.report import report

    measurements = report(results, settings, interrupted=interrupted)
    if as_json:
        click.echo(json.dumps(measurements, indent=2))
    elif any(result.seconds for result in results):
        _print_table(measurements)
    if interrupted:
        say("Interrupted. The measurements so far are shown." if results else "Interrupted.")
        return INTERRUPTED
    failures = [result.error for result in results if result.error]
    if failures:
        say(f"{len(failures)} failed:", *(f"  {failure}" for failure in failures))
    return FAILED if failures else 0


def _print_table(measurements):
    from keras_recnet.bench import report

    header, rows = report.cells(measurements)
    click.echo(report.heading(measurements))
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report.rich(header, rows))
    else:
        click.echo(f"\n{report.plain(header, rows)}\n")
    click.echo("\n".join(report.notes(measurements)))
