"""`keras-recnet web`: the networks in a browser, on this computer."""

import contextlib
import tempfile
import webbrowser
from pathlib import Path

import click

from keras_recnet.cli.running import EXIT_STATUS, say
from keras_recnet.errors import ConfigError

PORT = 8000


@click.command(epilog=EXIT_STATUS)
@click.argument("site", required=False, type=click.Path())
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port of the server; 0: any free one.  [default: {PORT}, or a free one if it is in use]",
)
@click.option("--no-open", is_flag=True, help="Do not open the page in the browser.")
def web(site, port, no_open):
    """Open a page that finds the object in your photos, in the browser.

    The networks run in the browser itself, and the page is served only to this computer: photos are not uploaded.
    Ctrl-C stops the server.

    SITE is a folder from `keras-recnet export --format web`; by default, the page with the shipped presets is served.
    """
    from keras_recnet.export.web import server
    from keras_recnet.export.web import site as sites

    with contextlib.ExitStack() as stack:
        if site is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keras-recnet-web-")))
            sites.write_shipped(folder)
        else:
            folder = Path(site)
            if not (folder / sites.SITE).is_file():
                raise ConfigError(
                    f"{folder}: not a page, {sites.SITE} is missing. `keras-recnet export PRESET --format web -o "
                    f"{folder}` writes one."
                )
        running = stack.enter_context(_start(server.Server, folder, port))
        say(f"{running.url}  (Ctrl-C stops the server)")
        if not no_open:
            webbrowser.open(running.url)
        with contextlib.suppress(KeyboardInterrupt):
            running.serve_forever()
    return 0


def _start(server, folder, port):
    try:
        return server(folder, PORT if port is None else port)
    except OSError as error:
        if port is None:
            return server(folder, 0)
        raise ConfigError(f"--port {port}: cannot be used ({error.strerror}). Choose another one, or 0.") from error
