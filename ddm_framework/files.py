"""The one door to files that others may have written: regular files only, and a sentence for everything else.

A pipe or a device in the place of a file would hang or never end, and a folder, a circle of links or a name that is too
long would end in an error of the system. Whoever reads a file asks here first, also where a library opens it by itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from ddm_framework.errors import DDMError

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.ENAMETOOLONG: "the name is longer than the system allows",
    errno.ELOOP: "its links run in a circle",
    errno.EACCES: "permission is denied",
    errno.EISDIR: "it is a folder, not a file",
}
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "it is a folder, not a file"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "it is a device, not a file"),
)


class FileError(DDMError):
    """A file that cannot be read.

    Attributes:
        path: the file.
        reason: why, without its name, for a message of the caller's own.
        is_missing: whether there is nothing of that name.
    """

    def __init__(self, path: Path, reason: str, *, is_missing: bool = False) -> None:
        self.path, self.reason, self.is_missing = path, reason, is_missing
        super().__init__(f"{path}: {reason}")


def why(error: OSError | ValueError) -> str:
    """What the system answered, in words."""
    if not isinstance(error, OSError):
        return "its name holds a character that no name may have"
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


def check_file(path: Path, most: int | None = None) -> int:
    """Make sure that a path leads to a regular file, for libraries that open it by themselves.

    Args:
        path: of the file; links are followed.
        most: bytes that it may have.
    Returns:
        Its size in bytes.
    Raises:
        FileError: if it is missing, something else than a file, or too large.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise FileError(path, why(error), is_missing=missing) from error
    for is_kind, told in _KINDS:
        if is_kind(status.st_mode):
            raise FileError(path, told)
    if most is not None and status.st_size > most:
        raise FileError(path, f"it is larger than {most:,} bytes")
    return status.st_size


def opened(path: Path) -> BufferedReader:
    """A regular file, open for reading; nothing that takes its place between the look and the opening can hang.

    Raises:
        FileError: if it is missing, cannot be read, or is something else than a file.
    """
    check_file(path)
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise FileError(path, why(error)) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileError(path, "it is not a file")
    return file


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The whole of a file; arguments and errors are those of `check_file`."""
    check_file(path, most)
    try:
        with opened(path) as file:
            return file.read() if most is None else file.read(most)
    except OSError as error:
        raise FileError(path, why(error)) from error


def read_text(path: Path, most: int | None = None) -> str:
    """The whole of a UTF-8 file; arguments and errors are those of `check_file`, and text in another code is one."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise FileError(path, "it is not UTF-8 text") from error


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file; False also if the system cannot tell."""
    return _is(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; False also if the system cannot tell."""
    return _is(path, stat.S_ISDIR)


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link itself; False also if the system cannot tell."""
    return _is(path, stat.S_ISLNK, follow=False)


def _is(path: Path, kind: Callable[[int], bool], follow: bool = True) -> bool:
    try:
        return kind(path.stat(follow_symlinks=follow).st_mode)
    except (OSError, ValueError):
        return False
