"""How commands work through pictures: progress, results, messages, exit status."""

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator

import click

from keras_recnet.errors import ConfigError, DiskError, MissingExtraError, RecNetError

FAILED, NOT_STARTED, INTERRUPTED = 1, 2, 130


class NotStarted(click.ClickException):
    """Nothing was begun: a wrong option, or something that is not there."""

    exit_code = NOT_STARTED


def exit_status(command: click.Command, program: str, arguments: list[str] | None) -> int:
    """Runs a command line, says what went wrong, and returns the exit status.

    Args:
        command: a click command or group.
        program: what help and messages call it.
        arguments: None: `sys.argv`.
    """
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
        return NOT_STARTED if isinstance(error, ConfigError | MissingExtraError) else FAILED


def report(
    work: Callable[[Callable], Iterator] | None,
    problems: list[tuple[str, str]],
    pictures: int,
    *,
    done_by: str = "",
    out: str,
    as_json: bool,
    in_groups: int | None = None,
) -> int:
    """Does the work, says what became of it, and returns the exit status.

    Args:
        work: gives the results; it is told how to say that a picture, or a part of one, is done. None: nothing to do.
        problems: (input, what is wrong) for what could not be started.
        pictures: how many there are in the work.
        done_by: what the last line says about the network.
        out: where files go, or `"-"`.
        as_json: a line of JSON for each result.
        in_groups: how many groups the pictures are in.
    """
    from keras_recnet.inference.outputs import Result

    start, total = time.perf_counter(), pictures + len(problems)
    done, failures, notes = 0, [], []
    refused = (Result(source, {}, error=error) for source, error in problems)
    try:
        with progress(total) as advance, contextlib.closing(work(advance) if work else _nothing()) as results:
            advance(len(problems))
            for result in itertools.chain(refused, results):
                if as_json:
                    click.echo(json.dumps(result.as_json()))
                if result.error:
                    failures.append(result.error)
                else:
                    done += result.is_picture
                if result.note:
                    notes.append(result.note)
    except KeyboardInterrupt:
        say(f"Interrupted after {done} of {total} pictures. What is written is whole; go on with --skip-existing.")
        return INTERRUPTED
    except DiskError as error:
        say(f"Error: {error} Stopped after {done} of {total} pictures.")
        return FAILED
    if work and out != "-":
        groups = "" if in_groups is None else f" in {in_groups} group{'s' * (in_groups != 1)}"
        seconds = time.perf_counter() - start
        say(f"{done} of {total} pictures{groups} in {seconds:.1f} s ({done_by}) -> {out}")
    if notes:
        say(*(f"Note: {note}" for note in notes))
    if failures:
        say(f"{len(failures)} failed:", *(f"  {failure}" for failure in failures))
    return FAILED if failures else 0


def _nothing():
    yield from ()


def say(*lines):
    """Writes lines to stderr."""
    # File names that are no UTF-8 come as surrogates, which a terminal refuses.
    click.echo("\n".join(lines).encode("utf-8", "replace").decode(), err=True)


@contextlib.contextmanager
def progress(total):
    """A bar on a terminal; gives a function that is told how many pictures more are done, 1 by default."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda pictures=1: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda pictures=1: bar.advance(task, pictures)


def pixel_limit(max_pixels: int | None) -> int:
    """What `--max-pixels` says, or its default; Pillow's own limit gives way to it."""
    from keras_recnet.imaging import reading

    max_pixels = max_pixels or reading.MAX_PIXELS
    reading.leave_pixel_limit_to_read(max_pixels)
    return max_pixels


def loaded(predictor: type, preset: str, **network):
    """Loads a predictor, and says so where it takes another engine than one would think.

    Raises:
        NotStarted: if it cannot be loaded.
    """
    try:
        with _quiet_start():
            made = predictor(preset, **network)
    except RecNetError as error:
        raise NotStarted(str(error)) from error
    if made.engine_note:
        say(f"Note: {made.engine_note}")
    return made


def writing_options(max_pixels, threshold, background, skip_existing) -> dict:
    """Arguments of `keras_recnet.inference.outputs.Writer` from the options of those names."""
    return {
        "threshold": 0.5 if threshold is None else threshold,
        "background": _background(background, max_pixels),
        "skip_existing": skip_existing,
    }


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
    try:
        return read(text, max_pixels=max_pixels).rgb
    except RecNetError as error:
        raise NotStarted(str(error)) from error


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
