import errno
import os
import socket
import threading

import pytest

from keras_recnet.errors import DataError, DiskError
from keras_recnet.files import atomic_path, locked, named_files, read_names, sha256, walk


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "map.png"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"picture")
        assert temporary.suffix == ".png"
        assert not path.exists()
    assert path.read_bytes() == b"picture"
    assert [entry.name for entry in path.parent.iterdir()] == ["map.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_existing_file_is_kept_when_the_block_fails(tmp_path, error):
    path = tmp_path / "map.png"
    path.write_bytes(b"old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_for_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(DiskError, match=r"map\.png: the disk is full"), atomic_path(tmp_path / "map.png"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_sha256_of_a_known_text_is_correct(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "cats/2.jpg", "cats/1.jpg", ".git/3.jpg", "empty/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_walk_is_sorted_and_skips_hidden_entries(folder):
    assert list(walk(folder, {".jpg", ".png"})) == [
        (str(folder), ["cats", "empty"], ["a.PNG", "b.jpg"]),
        (str(folder / "cats"), [], ["1.jpg", "2.jpg"]),
        (str(folder / "empty"), [], []),
    ]
    assert next(walk(folder))[2] == ["a.PNG", "b.jpg", "notes.txt"]
    assert [here for here, _, _ in walk(folder, skip=os.path.realpath(folder / "cats"))] == [
        str(folder),
        str(folder / "empty"),
    ]


def test_walk_never_lists_pipes_sockets_and_devices(tmp_path):
    (tmp_path / "file.jpg").write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "file.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jpg"))
        assert next(walk(tmp_path))[2] == ["broken.jpg", "file.jpg", "link.jpg", "loop.jpg"]


def test_walk_does_not_follow_links_to_folders(folder):
    (folder / "cats" / "again").symlink_to(folder)
    assert len(list(walk(folder))) == 3


def test_walk_reports_folders_that_cannot_be_read(folder, monkeypatch):
    def scandir(path, scandir=os.scandir):
        if str(path).endswith("cats"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    errors = []
    assert [here for here, _, _ in walk(folder, on_error=errors.append)] == [str(folder), str(folder / "empty")]
    assert [error.filename for error in errors] == [str(folder / "cats")]
    assert len(list(walk(folder))) == 2


def test_named_files_keep_their_folder_and_lose_their_suffix(folder):
    assert dict(named_files(folder, {".jpg", ".png"})) == {
        "a": folder / "a.PNG",
        "b": folder / "b.jpg",
        "cats/1": folder / "cats" / "1.jpg",
        "cats/2": folder / "cats" / "2.jpg",
    }


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_read_names_accepts_a_byte_order_mark_and_blank_lines(tmp_path, start):
    (tmp_path / "names.txt").write_bytes(f"{start}b\r\n\r\n a c \n".encode())
    assert read_names(tmp_path / "names.txt") == ["b", "a c"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b" \n", "is empty"), (b"\xff\xd8\xff", "cannot be read")]
)
def test_an_unusable_list_of_names_raises_an_error(tmp_path, content, message):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"list\.txt: the list {message}"):
        read_names(path)


def test_a_long_name_has_a_temporary_name_that_is_not_too_long(tmp_path):
    path = tmp_path / f"{'é' * 120}.png"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"picture")
    assert path.read_bytes() == b"picture"


def test_only_one_process_at_a_time_holds_a_lock(tmp_path):
    waited = []
    with locked(tmp_path / "lock", on_wait=lambda: waited.append("a")):
        thread = threading.Thread(target=lambda: _hold(tmp_path / "lock", waited))
        thread.start()
        thread.join(timeout=0.5)
        assert waited == ["waiting"]
    thread.join()
    assert waited == ["waiting", "held"]


def _hold(path, waited):
    with locked(path, on_wait=lambda: waited.append("waiting")):
        waited.append("held")
