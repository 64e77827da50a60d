"""Files of a run: written whole or not at all, read without running anything that they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ddm_framework.errors import RunFolderError
from ddm_framework.files import FileError, read_text, why

PARTIAL = ".partial"
"""How the name of a file ends while it is being written; a killed process may leave some behind."""

MOST_JSON = 500_000_000
"""Bytes of JSON that are read; what ddm writes has at most a few megabytes."""

AGAIN = "run with --fresh to make it again"


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush and rename, so that a reader sees either the old file or the new one.

    Raises:
        RunFolderError: if the disk is full or the folder cannot be written to.
    """
    temporary = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # never through a link that somebody put there
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunFolderError(_why_not_written(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def partial_name(path: Path) -> Path:
    """A name for what becomes a file or folder when it is finished; it says which process of which machine makes it."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    name = path.name if len(os.fsencode(path.name)) <= 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f".{name}.{machine}-{os.getpid()}{PARTIAL}")


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder for this process alone, in an existing one or a new one; what a killed process left there is removed.

    Raises:
        RunFolderError: if it cannot be made.
    """
    path = partial_name(beside / "jobs")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        remove_partials(beside)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    except OSError as error:
        raise RunFolderError(_why_not_written(path, error)) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_partials(folder: Path) -> None:
    """Remove what killed processes of this machine left unfinished in a folder that others may write to right now."""
    for path in folder.glob(f".*{PARTIAL}"):
        maker = path.name.removesuffix(PARTIAL).rpartition(".")[2].rpartition("-")
        ours = partial_name(path).name.removesuffix(PARTIAL).rpartition(".")[2].rpartition("-")[0]
        if maker[0] in ("", ours) and maker[2].isdecimal() and not _is_alive(int(maker[2][:18])):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs; True also if the system cannot tell."""
    if os.name != "posix":
        return True  # there, asking ends the process
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _why_not_written(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write {path}: the disk is full; free some space and run the same command again to go on"
    return f"cannot write {path}: {why(error)}"


def save_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    write_atomically(path, text.encode())


def save_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    save_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Indented JSON; NaN and infinity become null, scalars and arrays of torch and NumPy plain numbers."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunFolderError: if it is missing or not JSON.
    """
    try:
        return json.loads(read_text(path, MOST_JSON))
    except FileError as error:
        told = "is missing" if error.is_missing else f"is not readable JSON ({error.reason})"
        raise RunFolderError(f"{path} {told}; {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is not readable JSON ({error}); {AGAIN}") from error
