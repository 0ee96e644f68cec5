"""The command line of both clients."""

import contextlib
import os
import sys

import click

from keras_recnet.cli.running import exit_status, report


def main(client: type, url: str, arguments: list[str] | None = None) -> int:
    """Writes the maps of pictures, made by a server, and returns the exit status.

    Args:
        client: `RestClient` or `GrpcClient`.
        url: the server's address if the command line names none.
        arguments: of the command line; None: `sys.argv`.
    """
    program = f"python -m keras_recnet.export.serving.{'rest' if 'Rest' in client.__name__ else 'grpc'}_client"
    return exit_status(_command(client, url), program, arguments)


def _command(client, address):
    @click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    @click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
    @click.option("-o", "--out", required=True, help="Folder to write to; or a .png file, or -, for one picture.")
    @click.option("--url", default=address, show_default=True, help="Where the server is.")
    @click.option("--model", default="recnet_lite0", show_default=True, help="Its name in the server.")
    @click.option("--version", type=click.IntRange(min=1), help="Its version.  [default: the newest]")
    @click.option(
        "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Pictures in a request."
    )
    @click.option(
        "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Requests under way at once."
    )
    @click.option("--timeout", type=click.FloatRange(min=0.001), default=60.0, show_default=True, help="In seconds.")
    @click.option("--retries", type=click.IntRange(min=0), default=5, show_default=True, help="Of a request.")
    @click.option("--json", "as_json", is_flag=True, help="A line of JSON for each picture on stdout.")
    def command(inputs, out, url, model, as_json, batch_size, jobs, **options):
        """Write the saliency maps of pictures, made by a TF Serving server.

        INPUT is a file, a folder (searched with its subfolders, whose structure is kept), a quoted pattern such as
        "photos/**/*.jpg", or - for a picture on standard input. A map is an 8-bit PNG, OUT/NAME.png.

        Exit status: 0 all good; 1 some pictures failed (the others are done) or the server did; 2 nothing was started.
        """
        from keras_recnet.inference.inputs import find_pictures, plan

        if as_json and out == "-":
            raise click.UsageError("--json and a picture (-o -) cannot both go to standard output.")
        found, problems = find_pictures(inputs, outside=out)
        try:
            tasks = plan(found, out, ["mask"])
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        if not tasks:
            return report(None, problems, 0, out=out, as_json=as_json)
        with client(model, url, **options) as connected:

            def work(advance):
                for result in _results(connected, tasks, batch_size, jobs):
                    advance()
                    yield result

            return report(work, problems, len(tasks), done_by=str(connected), out=out, as_json=as_json)

    return command


def _results(client, tasks, batch_size, jobs):
    from keras_recnet.export.serving.client import PictureError
    from keras_recnet.imaging.drawing import to_8_bits
    from keras_recnet.imaging.writing import png, write
    from keras_recnet.inference.inputs import STANDARD_STREAM
    from keras_recnet.inference.outputs import Result

    images = (sys.stdin.buffer.read() if task.source == STANDARD_STREAM else task.source for task in tasks)
    maps = client.map(images, batch_size=batch_size, jobs=jobs, errors="return")
    with contextlib.closing(maps):
        for task, saliency_map in zip(tasks, maps, strict=True):
            if isinstance(saliency_map, PictureError):
                yield Result(task.source, {}, error=str(saliency_map))
                continue
            try:
                write(png(to_8_bits(saliency_map)), task.outputs["mask"])
            except OSError as error:  # what stands in the way of this one file: a name too long, a file for a folder
                yield Result(task.source, {}, error=f"{os.fspath(task.source)}: its map cannot be written ({error}).")
                continue
            yield Result(task.source, task.outputs, saliency_map.shape)
