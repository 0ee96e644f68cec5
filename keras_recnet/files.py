"""Files that are either whole or not there."""

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from keras_recnet.errors import DiskError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path` and renames it onto `path` when the block ends well.

    The temporary name keeps the suffix, since writers choose the format by it, and starts with a dot. When the block
    raises, also by Ctrl-C, the temporary file is removed and what stood at `path` stays.

    Args:
        path: where the finished file shall lie. Missing parent folders are made.

    Yields:
        The path to write to.

    Raises:
        DiskError: if the disk is full or the folder cannot be written.

    Example:
        >>> with atomic_path("map.png") as temporary:
        ...     temporary.write_bytes(png)
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # which would hide the error that counts
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike) -> Iterator[None]:
    """Makes a `DiskError` that names `path` of what the system says when it cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(disk_full(path)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(f"{path}: not allowed to write here. Choose another folder.") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise DiskError(f"{path}: a file lies where a folder is needed. Choose another folder.") from error
        raise


def disk_full(path: str | os.PathLike) -> str:
    """What to say when the disk of `path` is full."""
    return f"{path}: the disk is full. Free some space or choose another folder."


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 sum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
