"""Files on local disks and on the remote file systems that pyarrow supports, such as S3, Google Cloud Storage and HDFS.

A location is a local path, or a URI such as `s3://bucket/folder`. pyarrow takes credentials, region and endpoint from
the environment.
"""

import contextlib
import functools
import os
import posixpath
from collections.abc import Collection
from pathlib import Path

from keras_recnet.errors import DataError, DiskError
from keras_recnet.files import atomic_path, disk_errors


def is_local(location: str) -> bool:
    """Return whether a location is a local path, not a URI."""
    return "://" not in location


def join(location: str, *parts: str) -> str:
    """Return the location of a file in a folder."""
    return os.path.join(location, *parts) if is_local(location) else posixpath.join(location, *parts)


def read(location: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: if it cannot be read.
    """
    if is_local(location):
        return Path(location).read_bytes()
    system, path = _resolve(location)
    with system.open_input_stream(path) as stream:
        return stream.read()


def write(location: str, data: bytes) -> None:
    """Write a whole file atomically, and create its folder if needed.

    Raises:
        DiskError: if it cannot be written.
    """
    if is_local(location):
        with atomic_path(location) as temporary:
            temporary.write_bytes(data)
        return
    from pyarrow import fs

    system, path = _resolve(location)
    try:
        if not isinstance(system, fs.S3FileSystem | fs.GcsFileSystem):
            system.create_dir(posixpath.dirname(path))
        # object stores show only complete objects; other file systems need a temporary name and a rename
        temporary = path if isinstance(system, fs.S3FileSystem | fs.GcsFileSystem) else f"{path}.incomplete"
        with system.open_output_stream(temporary) as stream:
            stream.write(data)
        if temporary != path:
            system.move(temporary, path)
    except OSError as error:
        raise DiskError(f"{location}: cannot be written ({error}).") from error


def names_in(folder: str) -> list[str]:
    """Return the sorted names of the files directly in a folder; empty if there is no such folder.

    Raises:
        DiskError: if the folder cannot be listed.
    """
    if is_local(folder):
        with disk_errors(folder), contextlib.suppress(FileNotFoundError):
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
        return []
    from pyarrow import fs

    system, path = _resolve(folder)
    try:
        entries = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise DiskError(f"{folder}: cannot be listed ({error}).") from error
    return sorted(entry.base_name for entry in entries if entry.is_file)


def delete(location: str) -> None:
    """Delete a file."""
    if is_local(location):
        os.unlink(location)
        return
    system, path = _resolve(location)
    system.delete_file(path)


def find(location: str, suffixes: Collection[str]) -> list[tuple[str, str]]:
    """List the files of a remote folder and its subfolders, without hidden ones, or a single file.

    Args:
        location: URI of a folder or a file.
        suffixes: list only files of a folder with one of these suffixes (lower case, with the dot).

    Returns:
        `(URI, path relative to the folder)` of each file, sorted.

    Raises:
        DataError: if there is no such folder or file, or it cannot be listed.
    """
    from pyarrow import fs

    system, root = _resolve(location)
    try:
        info = system.get_file_info(root)
        if info.is_file:
            return [(location, posixpath.basename(root))]
        if info.type == fs.FileType.NotFound:
            raise DataError(f"{location}: no such file or folder. Check the address.")
        entries = system.get_file_info(fs.FileSelector(root, recursive=True))
    except OSError as error:
        raise DataError(f"{location}: cannot be listed ({error}).") from error
    files = []
    for entry in entries:
        relative = posixpath.relpath(entry.path, root)
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if entry.is_file and not hidden and posixpath.splitext(relative)[1].lower() in suffixes:
            files.append((posixpath.join(location, relative), relative))
    return sorted(files)


def _resolve(location):
    """Return the pyarrow file system of a URI and the path in it."""
    scheme, _, rest = location.partition("://")
    host, _, path = rest.partition("/")
    system, root = _file_system(scheme, host)
    return system, posixpath.join(root, path.rstrip("/"))


@functools.cache  # a new S3 client per file would be slow
def _file_system(scheme, host):
    from pyarrow import ArrowInvalid, fs

    try:
        return fs.FileSystem.from_uri(f"{scheme}://{host}/")
    except (ArrowInvalid, OSError, ImportError) as error:
        raise DataError(f"{scheme}://{host}: this file system cannot be used ({error}).") from error
