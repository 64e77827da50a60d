"""Files of a run: written whole or not at all, read without running anything that they hold."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddm_framework.errors import RunFolderError

PARTIAL = ".partial"
"""How the name of a file ends while it is being written; a killed process may leave some behind."""

AGAIN = "run with --fresh to make it again"


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush and rename, so that a reader sees either the old file or the new one.

    Raises:
        RunFolderError: if the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunFolderError(_why_not_written(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _why_not_written(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write {path}: the disk is full; free some space and run the same command again to go on"
    return f"cannot write {path}: {error.strerror or error}"


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
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing; {AGAIN}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is not readable JSON ({error}); {AGAIN}") from error
