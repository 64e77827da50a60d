"""Files of a run: written whole or not at all, read without running anything that they hold."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddm_framework.errors import RunFolderError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary name, flush, rename: whoever looks sees the old file or the new one.

    Raises:
        RunFolderError: if the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(_why_not_written(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _why_not_written(path: Path, error: Exception) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    if full:
        return f"cannot write {path}: the disk is full; free some space and run the same command again to go on"
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}"


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    ready = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
    write_atomically(path, lambda temporary: save_file(ready, temporary))


def load_tensors(path: Path, names: Iterable[str] = ()) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        names: tensors that it must hold.
    Raises:
        RunFolderError: if it is missing, truncated, not a safetensors file, or holds something else.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing; run with --fresh to make it again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} is truncated or not a safetensors file ({error}); run with --fresh to make it again"
        ) from error
    if missing := [name for name in names if name not in tensors]:
        raise RunFolderError(
            f"{path} is not what ddm wrote there: it lacks {missing[0]!r} and holds {sorted(tensors)[:3]}; "
            "run with --fresh to make it again"
        )
    return tensors


def save_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    write_atomically(path, lambda temporary: _write_synced(temporary, text))


def _write_synced(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def save_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    save_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Indented JSON; NaN and infinity become null."""
    return json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunFolderError: if it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} is not readable JSON ({error}); run with --fresh to make it again") from error
