import errno

import pytest

from keras_recnet.errors import DiskError
from keras_recnet.files import atomic_path, sha256


def test_the_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "map.png"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"picture")
        assert temporary.suffix == ".png"
        assert not path.exists()
    assert path.read_bytes() == b"picture"
    assert [entry.name for entry in path.parent.iterdir()] == ["map.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_there_stays_when_the_block_fails(tmp_path, error):
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


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(DiskError, match=r"map\.png: the disk is full"), atomic_path(tmp_path / "map.png"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
