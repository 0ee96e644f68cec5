"""`keras-recnet predict` for a video."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import click

from keras_recnet import video
from keras_recnet.cli.running import FAILED, INTERRUPTED, progress, say


def is_video(inputs: tuple[str, ...], out: str) -> bool:
    """Return whether a command line is about a video, judging by the suffixes of its inputs and output."""
    return any(_suffix(path) in video.SUFFIXES for path in inputs) or _suffix(out) in video.FORMATS


def check(
    inputs: tuple[str, ...], out: str, kinds: list[str], *, raw_size: tuple[int, int] | None, opaque: bool
) -> str:
    """Check the arguments of a video and return its output type.

    Args:
        inputs: the values of INPUT.
        out: the value of `--out`.
        kinds: the output types.
        raw_size: the value of `--frames`.
        opaque: whether cutouts have a background.

    Raises:
        click.UsageError: if a combination is not supported.
    """
    if len(inputs) != 1:
        raise click.UsageError(f"A video cannot be combined with other inputs. Received: {len(inputs)} inputs")
    if (raw_size is None) == (inputs == ("-",)):
        raise click.UsageError("--frames WxH and the input - must be used together: raw frames from standard input.")
    if len(kinds) != 1 or kinds[0] not in video.KINDS:
        raise click.UsageError(
            f"A video has one output type, one of {', '.join(video.KINDS)}. Received: --type {','.join(kinds)}"
        )
    if out == "-":
        return kinds[0]
    if raw_size is not None:
        raise click.UsageError("Raw frames have no frame rate. Write them to standard output too: -o -")
    suffix = _suffix(out)
    if suffix not in video.FORMATS:
        raise click.UsageError(f"-o {out}: a video needs a file with one of the suffixes {', '.join(video.FORMATS)}.")
    if kinds[0] == "cutout" and not opaque and suffix not in video.TRANSPARENT_FORMATS:
        raise click.UsageError(
            f"-o {out}: {suffix} has no transparency. Choose {' or '.join(video.TRANSPARENT_FORMATS)}, or add "
            f"--background."
        )
    if os.path.exists(out) and os.path.realpath(out) == os.path.realpath(inputs[0]):
        raise click.UsageError(f"-o {out}: this is the input itself. Choose another name.")
    return kinds[0]


def convert(
    source: str,
    out: str,
    kind: str,
    load: Callable,
    *,
    raw_size: tuple[int, int] | None,
    every: int,
    workers: int | None,
    as_json: bool,
    skip_existing: bool,
) -> int:
    """Convert a video, print a summary and return the exit status.

    Args:
        source: the video, or `"-"` for raw frames.
        out: the output file, or `"-"` for raw frames.
        kind: the output type.
        load: returns an `OutputWriter` with the given options, and a `Predictor`.
        raw_size: `(height, width)` of raw frames.
        every: see `keras_recnet.video.conversion.convert_video`.
        workers: see `keras_recnet.video.conversion.convert_video`.
        as_json: whether to print a line of JSON.
        skip_existing: whether to do nothing if the output file exists.

    Raises:
        RecNetError: if the video cannot be read or the output cannot be written.
    """
    from keras_recnet.errors import DiskError, ImageError
    from keras_recnet.video.conversion import WORKING_SIDE

    result = {"source": source, "outputs": {} if out == "-" else {kind: out}, "skipped": False, "error": None}
    if skip_existing and os.path.exists(out):
        if as_json:
            click.echo(json.dumps({**result, "skipped": True}))
        say(f"{out} exists (skipped).")
        return 0
    start = time.perf_counter()
    drawing, predictor = load(working_side=WORKING_SIDE)
    try:
        reader, frames, interrupted = _run(source, out, kind, predictor, drawing, raw_size, every, workers)
    except (ImageError, DiskError) as error:
        if as_json:
            click.echo(json.dumps({**result, "outputs": {}, "error": str(error)}))
        raise
    seconds = time.perf_counter() - start
    if as_json:
        result.update(error=reader.problem, size=reader.size, frames=frames, seconds=round(seconds, 4))
        click.echo(json.dumps(result))
    if interrupted:
        say(f"Interrupted after {frames} frames{'' if out == '-' else f', which are in {out}'}.")
        return INTERRUPTED
    if out != "-":
        say(f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} per second ({predictor}) -> {out}")
    if reader.problem:
        say(f"Error: {reader.problem}")
    return FAILED if reader.problem else 0


def _run(source, out, kind, predictor, drawing, raw_size, every, workers):
    """Return the reader, the number of frames written, and whether the user has interrupted the conversion."""
    from keras_recnet.errors import ImageError
    from keras_recnet.video.conversion import convert_video
    from keras_recnet.video.reading import RawReader, VideoReader

    reader = RawReader(sys.stdin.buffer, raw_size) if raw_size else VideoReader(source, max_pixels=predictor.max_pixels)
    options = {"every": every, "workers": workers}
    with reader, stop_on_signal() as stopped, progress(reader.count or 0) as advance:
        try:
            frames = convert_video(reader, out, predictor, kind, drawing, **options, advance=advance, stop=stopped)
        except BrokenPipeError as error:
            _discard_stdout()
            raise ImageError("standard output: the program that reads the frames has ended.") from error
        return reader, frames, stopped()


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM was received; a second one raises KeyboardInterrupt."""
    received = []

    def handle(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _discard_stdout():
    """Redirect standard output to the null device, so that Python does not fail to flush it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _suffix(path):
    return os.path.splitext(path)[1].lower()
