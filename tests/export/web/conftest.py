import threading

import pytest

from keras_recnet.export.web import server
from keras_recnet.export.web import site as sites


@pytest.fixture(scope="session")
def shipped_site(tmp_path_factory):
    """Folder of the page with the shipped presets."""
    folder = tmp_path_factory.mktemp("site")
    sites.write_shipped(folder)
    return folder


@pytest.fixture(scope="session")
def serve():
    """Function that serves a folder and returns the server."""
    servers = []

    def start(folder):
        servers.append(server.Server(folder))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


@pytest.fixture(scope="session")
def chromium(browser):
    """A headless browser, controlled by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        yield launched
        launched.close()
