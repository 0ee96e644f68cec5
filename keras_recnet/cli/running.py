"""Run commands: messages, progress, results and the exit status."""

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator

import click

from keras_recnet.errors import ConfigError, DataError, DiskError, MissingExtraError, PresetError, RecNetError
from keras_recnet.files import silence_stderr

FAILED, NOT_STARTED, INTERRUPTED = 1, 2, 130

# errors that commands raise before they start their work
_EARLY_ERRORS = (ConfigError, DataError, MissingExtraError, PresetError)

# printed at the end of every command's help
EXIT_STATUS = """\b
Exit status:
  0    success
  1    some inputs failed (they are listed at the end), or the disk is full
  2    nothing was started: an invalid option, or a missing file, preset or package
  130  interrupted
"""


class NotStarted(click.ClickException):
    """Nothing was started: an option is invalid, or a file, preset or package is missing."""

    exit_code = NOT_STARTED


def exit_status(command: click.Command, program: str, arguments: list[str] | None) -> int:
    """Run a command line, print its errors, and return the exit status.

    Args:
        command: a click command or group.
        program: the program's name in help and messages.
        arguments: the command line; None: `sys.argv`.
    """
    # Pillow warns about damaged files, which are reported as errors if they cannot be read.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return command.main(arguments, prog_name=program, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except RecNetError as error:
        click.echo(f"Error: {error}", err=True)
        return NOT_STARTED if isinstance(error, _EARLY_ERRORS) else FAILED
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        return FAILED


@contextlib.contextmanager
def extra(what: str, name: str) -> Iterator[None]:
    """Catch the import error of a missing package, and say that `what` needs the extra `name`.

    Raises:
        MissingExtraError: instead of a `ModuleNotFoundError`, unless a module of this library is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_recnet"):
            raise
        raise MissingExtraError(
            f'{what} needs more packages: pip install "keras-recnet[{name}]". Missing: {error.name}'
        ) from error


def report(
    run: Callable[..., Iterator] | None,
    problems: list[tuple[str, str]],
    images: int,
    *,
    out: str,
    as_json: bool,
    network: str = "",
    groups: int | None = None,
    written: Collection = (),
    resume: str = "Continue with --skip-existing.",
) -> int:
    """Run a job, print its results and a summary, and return the exit status.

    Args:
        run: called with `advance`, a function that moves the progress bar by a number of images; returns an iterator
            of `Result`s. None: there is nothing to do.
        problems: `(input, message)` for each input that matches no image.
        images: number of images.
        out: where files are written, or `"-"`.
        as_json: whether to print a line of JSON per result.
        network: description of the network.
        groups: number of groups, or None.
        written: the files written so far, for the message when the job stops early.
        resume: how to continue after an interruption.
    """
    from keras_recnet.inference.outputs import Result

    start, total = time.perf_counter(), images + len(problems)
    done, skipped, failures, notes = 0, 0, [], []

    def add(result):
        if as_json:
            click.echo(json.dumps(result.as_json()))
        if result.note:
            notes.append(result.note)
        if result.error:
            failures.append(result.error)
        return bool(result.is_image and not result.error)

    try:
        with progress(total) as advance:
            for source, message in problems:
                add(Result(source, error=message))
                advance(1)
            if run is not None:
                with contextlib.closing(run(advance=advance)) as results:
                    for result in results:
                        done += add(result)
                        skipped += result.skipped and result.is_image
        status = FAILED if failures else 0
    except KeyboardInterrupt:
        say(f"Interrupted after {done} of {total} images. {len(written)} complete files were written. {resume}")
        status = INTERRUPTED
    except DiskError as error:
        say(f"Error: {error} Stopped after {done} of {total} images; {len(written)} files were written.")
        status = FAILED
    else:
        if run is None and failures:
            status = NOT_STARTED
        in_groups = "" if groups is None else f" in {groups} group{'s' * (groups != 1)}"
        some_skipped = f" ({skipped} skipped)" if skipped else ""
        seconds = time.perf_counter() - start
        if run is not None and out != "-":
            say(f"{done} of {total} images{in_groups}{some_skipped} in {seconds:.1f} s ({network}) -> {out}")
    if notes:
        say(*(f"Note: {note}" for note in notes))
    if failures:
        say(f"{len(failures)} failed:", *(f"  {failure}" for failure in failures))
    return status


def say(*lines):
    """Print lines to stderr."""
    # File names that are not UTF-8 contain surrogates, which a terminal refuses.
    click.echo("\n".join(lines).encode("utf-8", "replace").decode(), err=True)


@contextlib.contextmanager
def progress(total):
    """Show a progress bar on a terminal, and yield a function that advances it, by 1 if no number is given."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count=1: bar.advance(task, count)


def pixel_limit(max_pixels: int | None) -> int:
    """Return the value of `--max-pixels` or its default, and raise Pillow's own limit to it."""
    from keras_recnet.imaging import reading

    max_pixels = max_pixels or reading.MAX_PIXELS
    reading.raise_pillow_limit(max_pixels)
    return max_pixels


def load_predictor(predictor: type, preset: str | None, **network):
    """Load a `Predictor` or `GroupPredictor`, and say why the Keras engine is used if it was not requested.

    Args:
        predictor: the class.
        preset: name or folder of a preset; None: the default.
        **network: other arguments of the class.

    Raises:
        NotStarted: if the predictor cannot be loaded.
    """
    try:
        with silence_stderr():
            loaded = predictor(**({} if preset is None else {"preset": preset}), **network)
    except RecNetError as error:
        raise NotStarted(str(error)) from error
    if loaded.engine_note:
        say(f"Note: {loaded.engine_note}")
    return loaded


def output_writer(max_pixels: int, background: str | None, **options):
    """Build the `OutputWriter` from the value of `--background` and its other options; None selects the default."""
    from keras_recnet.inference.outputs import OutputWriter

    options = {name: value for name, value in options.items() if value is not None}
    return OutputWriter(background=_background(background, max_pixels), **options)


def _background(text, max_pixels):
    if text is None:
        return None
    from PIL import ImageColor

    from keras_recnet.imaging.reading import read

    try:
        color = ImageColor.getrgb(text)
    except ValueError:
        if not os.path.exists(text):
            raise click.UsageError(f"--background {text}: neither a color (white, #ff8800) nor a file.") from None
    else:
        if len(color) != 3:
            raise click.UsageError(f"--background {text}: a color with transparency. Leave out its alpha value.")
        return color
    try:
        return read(text, max_pixels=max_pixels).rgb
    except RecNetError as error:
        raise NotStarted(str(error)) from error
