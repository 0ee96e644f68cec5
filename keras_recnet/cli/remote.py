"""The command line of the TF Serving clients."""

import contextlib
import functools
import sys

import click

from keras_recnet.cli import options
from keras_recnet.cli.running import EXIT_STATUS, exit_status, report


def main(client: type, url: str, arguments: list[str] | None = None) -> int:
    """Write the maps that a server predicts, and return the exit status.

    Args:
        client: `RestClient` or `GrpcClient`.
        url: default address of the server.
        arguments: the command line; None: `sys.argv`.
    """
    program = f"python -m keras_recnet.export.serving.{'rest' if 'Rest' in client.__name__ else 'grpc'}_client"
    return exit_status(_command(client, url), program, arguments)


def _command(client, default_url):
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

    @click.command(context_settings=settings, epilog=EXIT_STATUS)
    @click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
    @click.option(
        "-o",
        "--out",
        required=True,
        help="Output folder; for one image also a PNG, JPEG or WebP file, or - for stdout.",
    )
    @click.option("--url", default=default_url, show_default=True, help="Address of the server.")
    @click.option("--model", default="recnet_lite0", show_default=True, help="Name of the model on the server.")
    @click.option("--version", type=click.IntRange(min=1), help="Version of the model.  [default: the newest]")
    @click.option(
        "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Number of images per request."
    )
    @click.option(
        "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Number of concurrent requests."
    )
    @click.option(
        "--timeout",
        type=click.FloatRange(min=0.001),
        default=60.0,
        show_default=True,
        help="Seconds to wait for an answer.",
    )
    @click.option(
        "--retries", type=click.IntRange(min=0), default=5, show_default=True, help="Number of retries per request."
    )
    @options.skip_existing
    @options.as_json
    def command(inputs, out, url, model, skip_existing, as_json, batch_size, jobs, **connection):
        """Predict the saliency maps of images with a TF Serving server.

        INPUT is a file, a folder (searched recursively), a quoted pattern such as "photos/**/*.jpg", or - for standard
        input. The structure of folders is kept in the output folder.

        A map, OUT/NAME.png, is an 8-bit PNG of the image's size.
        """
        from keras_recnet.inference.inputs import find_images, plan_jobs
        from keras_recnet.inference.outputs import OutputWriter

        if as_json and out == "-":
            raise click.UsageError("--json and -o - cannot both write to standard output.")
        images, problems = find_images(inputs, outside=out)
        try:
            tasks = plan_jobs(images, out, ["mask"], skip_existing=skip_existing)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        if not tasks:
            return report(None, problems, 0, out=out, as_json=as_json)
        writer = OutputWriter(skip_existing=skip_existing)
        with client(model, url, **connection) as connected:
            run = functools.partial(_write_maps, connected, tasks, writer, batch_size, jobs)
            return report(
                run, problems, len(tasks), out=out, as_json=as_json, network=str(connected), written=writer.written
            )

    return command


def _write_maps(client, tasks, writer, batch_size, jobs, advance):
    from keras_recnet.export.serving.client import RequestImageError
    from keras_recnet.imaging.reading import DecodedImage
    from keras_recnet.inference.inputs import STANDARD_STREAM
    from keras_recnet.inference.outputs import Result

    missing = [task for task in tasks if writer.missing(task.outputs)]
    for task in tasks:
        if not writer.missing(task.outputs):
            advance(1)
            yield Result(task.source, task.outputs, skipped=True)
    images = (sys.stdin.buffer.read() if task.source == STANDARD_STREAM else task.source for task in missing)
    with contextlib.closing(client.map(images, batch_size=batch_size, jobs=jobs, errors="return")) as maps:
        for task, saliency_map in zip(missing, maps, strict=True):
            result = Result(task.source)
            with result.recording():
                if isinstance(saliency_map, RequestImageError):
                    raise saliency_map
                writer.save(task.outputs, DecodedImage(None, saliency_map.shape), saliency_map)
                result.outputs, result.size = task.outputs, saliency_map.shape
            advance(1)
            yield result
