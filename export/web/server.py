"""Serve a static site on this computer only."""

import http.server
import os
import socketserver
import sys
from pathlib import Path

HOST = "127.0.0.1"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    "": "application/octet-stream",
}


class Server(http.server.ThreadingHTTPServer):
    """A server for the files of a folder, reachable only from this computer.

    Folders are not listed, and links to files outside the folder are not followed.

    Args:
        folder: the site.
        port: port to listen on; 0 chooses a free one.

    Raises:
        OSError: if the port is in use.
    """

    # A second server on the same port must fail, and not silently share it, as it would on Windows.
    allow_reuse_address = os.name == "posix"

    def __init__(self, folder: str | os.PathLike, port: int = 0):
        self.folder = Path(folder).resolve()
        super().__init__((HOST, port), _Handler)

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # that of HTTPServer looks up the name of the host, which may be slow
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def url(self) -> str:
        """The address of the site."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request, client_address):
        """Report errors, except for a browser that closed its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = TYPES
    protocol_version = "HTTP/1.1"

    def __init__(self, request, client_address, server):
        super().__init__(request, client_address, server, directory=os.fspath(server.folder))

    def send_head(self):
        path = Path(self.translate_path(self.path))
        # a name with a null byte raises a ValueError
        if "\0" in os.fspath(path) or not path.resolve().is_relative_to(self.server.folder):
            self.send_error(404, "Not found")
            return None
        return super().send_head()

    def list_directory(self, path):
        self.send_error(404, "Not found")

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")  # a new version of the site is visible immediately
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format, *arguments):
        pass
