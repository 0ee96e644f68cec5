import http.client
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from keras_recnet.cli import main


@pytest.fixture
def folder(tmp_path):
    """A folder with some files, and a file next to it."""
    site = tmp_path / "site"
    (site / "inner").mkdir(parents=True)
    for name in ("index.html", "page.js", "module.mjs", "style.css", "a.wasm", "inner/model.tflite"):
        (site / name).write_text(name)
    (tmp_path / "secret.txt").write_text("secret")
    return site


def request(server, path):
    """Request a path as it is; the client does not normalize it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    ("path", "name", "content_type"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/page.js?v=1", "page.js", "text/javascript; charset=utf-8"),
        ("/module.mjs", "module.mjs", "text/javascript; charset=utf-8"),
        ("/style.css", "style.css", "text/css; charset=utf-8"),
        ("/a.wasm", "a.wasm", "application/wasm"),
        ("/inner/model.tflite", "inner/model.tflite", "application/octet-stream"),
    ],
)
def test_files_are_served_with_their_type(serve, folder, path, name, content_type):
    response, body = request(serve(folder), path)
    assert (response.status, body.decode()) == (200, name)
    assert response.headers["Content-Type"] == content_type


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/%2e%2e/secret.txt", "/inner/../../secret.txt", "/..%2fsecret.txt", "//secret.txt", "/%00"],
)
def test_files_outside_the_folder_are_not_served(serve, folder, path):
    response, body = request(serve(folder), path)
    assert response.status == 404
    assert b"secret" not in body.replace(b"secret.txt", b"")


def test_links_to_outside_are_not_followed(serve, folder):
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "parent").symlink_to("..")
    server = serve(folder)
    for path in ("/link.txt", "/parent/secret.txt"):
        assert request(server, path)[0].status == 404


def test_folders_are_not_listed(serve, folder):
    response, body = request(serve(folder), "/inner/")
    assert response.status == 404
    assert b"model.tflite" not in body


def test_only_this_computer_is_served(serve, folder):
    assert serve(folder).server_address[0] == "127.0.0.1"


def start(*arguments):
    command = [sys.executable, "-m", "keras_recnet.cli.main", "web", "--no-open", "--port", "0", *map(str, arguments)]
    # background jobs of a shell and their children ignore SIGINT by default
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_the_command_serves_the_shipped_page_without_frameworks_until_interrupted(processes, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('tensorflow was imported')")
    (tmp_path / "keras.py").write_text("raise AssertionError('keras was imported')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        process = start()
    processes.append(process)
    url = process.stderr.readline().split()[0]
    with urllib.request.urlopen(url) as response:
        assert b"Find the object" in response.read()
    with urllib.request.urlopen(f"{url}models/recnet_lite0.tflite") as response:
        assert response.read(8)[4:] == b"TFL3"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_folder_that_is_not_a_page_is_refused(tmp_path, capfd):
    assert main.main(["web", str(tmp_path), "--no-open"]) == 2
    assert f"{tmp_path}: not a page, site.json is missing. `keras-recnet export" in capfd.readouterr().err


def test_a_port_in_use_is_reported(serve, folder, shipped_site, capfd):
    port = str(serve(folder).server_port)
    assert main.main(["web", str(shipped_site), "--no-open", "--port", port]) == 2
    assert f"--port {port}: cannot be used (Address already in use)" in capfd.readouterr().err
