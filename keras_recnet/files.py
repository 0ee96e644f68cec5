"""Atomic writes, links, disk errors, folder walks, lists of names, and a silent stderr."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from keras_recnet.errors import DataError, DiskError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` and rename it to `path` when the block succeeds.

    The temporary name starts with a dot and keeps the suffix, because writers derive the format from it. If the block
    raises (`KeyboardInterrupt` included), the temporary file is removed and an existing file at `path` is kept.

    Args:
        path: the file to write. Missing parent folders are created.

    Yields:
        The path to write to.

    Raises:
        DiskError: if the disk is full or the folder is not writable.

    Example:
        >>> with atomic_path("map.png") as temporary:
        ...     temporary.write_bytes(png)
    """
    path = Path(path)
    # shortened, so that it is not longer than the limit if `path` is not
    temporary = path.with_name(f".{path.stem[:32]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # this error would hide the original one
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike) -> Iterator[None]:
    """Convert the `OSError` of a failed write into a `DiskError` that names `path`."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskError(disk_full(path)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(f"{path}: permission denied. Choose another folder.") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise DiskError(f"{path}: a file exists where a folder is needed. Choose another folder.") from error
        raise


@contextlib.contextmanager
def locked(path: str | os.PathLike, on_wait: Callable[[], object]) -> Iterator[None]:
    """Let only one process at a time run the block, if the system and the file system support locks.

    Args:
        path: a file for the lock, which is created and kept.
        on_wait: called once if another process has the lock.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # no locks on this file system
            pass
        yield


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because the disk or the user's quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(path: str | os.PathLike) -> str:
    """The error message for a full disk."""
    return f"{path}: the disk is full. Free some space or choose another folder."


def link(source: str | os.PathLike, target: Path) -> None:
    """Make `target` a symbolic link to a file, or a copy of that file; an existing `target` is kept."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    with contextlib.suppress(FileNotFoundError):
        target.unlink()  # a broken link
    try:
        target.symlink_to(os.path.abspath(source))
    except (OSError, NotImplementedError):  # Windows requires a privilege; some file systems have no links
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 checksum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk(
    folder: str | os.PathLike,
    suffixes: Collection[str] | None = None,
    *,
    skip: str | None = None,
    on_error: Callable[[OSError], object] | None = None,
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder and its subfolders, like `os.walk`, sorted and without hidden entries.

    Only regular files (and links to them) are listed. Named pipes, devices and sockets are not: opening one can block
    forever. A broken link is listed, so that reading it reports the missing file. Links to folders are not followed.

    Args:
        folder: where to start.
        suffixes: list only files with one of these suffixes (lower case, with the dot); None lists all.
        skip: real path of a subfolder to leave out, such as an output folder.
        on_error: called with the `OSError` of each folder that cannot be read. None ignores these folders.

    Yields:
        `(path, folder_names, file_names)` of each folder, parents first.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        here, folders, files = waiting.pop(), [], []
        try:
            with os.scandir(here) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if on_error is not None:
                on_error(error)
            continue
        for entry in visible:
            kind = _kind(entry)
            if kind == "folder" and (skip is None or os.path.realpath(entry.path) != skip):
                folders.append(entry.name)
            elif kind == "file" and (suffixes is None or os.path.splitext(entry.name)[1].lower() in suffixes):
                files.append(entry.name)
        folders.sort()
        files.sort()
        yield here, folders, files
        waiting += [os.path.join(here, name) for name in reversed(folders)]


def _kind(entry):
    try:
        if entry.is_dir():
            return "link to a folder" if entry.is_symlink() else "folder"
        return "file" if entry.is_file() or not is_device(entry.path) else "device"
    except OSError:  # a link to itself, for example
        return "file"


def is_device(path: str | os.PathLike) -> bool:
    """Return whether a path is a named pipe, a device or a socket, which can block forever when it is opened."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def named_files(
    folder: str | os.PathLike, suffixes: Collection[str], *, on_error: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, Path]]:
    """Yield `(name, path)` of each file that `walk` lists: the name is the path within `folder`, without suffix."""
    folder = Path(folder)
    for here, _, names in walk(folder, suffixes, on_error=on_error):
        for name in names:
            path = Path(here, name)
            yield path.relative_to(folder).with_suffix("").as_posix(), path


def read_names(path: str | os.PathLike) -> list[str]:
    """Read a text file with one name per line, in UTF-8 with or without a byte order mark.

    Blank lines and spaces around a name are dropped.

    Raises:
        DataError: if the file cannot be read or has no names.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list cannot be read ({error}). Pass a text file in UTF-8.") from error
    if not names:
        raise DataError(f"{path}: the list is empty. Write one name per line.")
    return names


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard everything written to stderr, even from C++: LiteRT and TensorFlow log while they load."""
    try:
        stderr = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # stderr was replaced by an object that is not a file
        yield
        return
    sys.stderr.flush()
    saved = os.dup(stderr)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), stderr)
        yield
    finally:
        os.dup2(saved, stderr)
        os.close(saved)
