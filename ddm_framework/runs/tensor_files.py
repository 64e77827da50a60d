"""Tensors on disk: safetensors, written whole or not at all, and checked when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ddm_framework.errors import RunFolderError
from ddm_framework.files import FileError, check_file
from ddm_framework.resources import check_fits
from ddm_framework.runs.safe_files import AGAIN, write_atomically


def save_tensors(path: Path, tensors: Mapping[str, Tensor], stamp: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically; a stamp says what it was made from, and is checked when it is read."""
    ready = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
    write_atomically(path, save(ready, dict(stamp) if stamp else None))


def load_tensors(path: Path, names: Iterable[str] = (), stamp: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        names: tensors that it must hold.
        stamp: what it must have been stamped with.
    Raises:
        RunFolderError: if it is missing, truncated, not a safetensors file, or holds something else.
    """
    check_tensors(path, names, stamp)
    check_fits(path.stat().st_size, str(path), "give this machine more memory")
    with safe_open(path, framework="pt") as file:
        # Copies: a tensor that still maps the file kills the process if somebody cuts the file short.
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no mapping


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under longer names, so that several groups fit into one file."""
    return {prefix + name: each for name, each in tensors.items()}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """One of the groups of a file, under its own names."""
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def check_tensors(
    path: Path,
    names: Iterable[str] = (),
    stamp: Mapping[str, str] | None = None,
    like: Mapping[str, Tensor] | None = None,
) -> None:
    """Look at the header of a safetensors file alone; arguments and errors are those of `load_tensors`.

    Args:
        path: the file.
        names: tensors that it must hold.
        stamp: what it must have been stamped with.
        like: tensors that it must hold, in their shapes and types.
    """
    wanted = like or {}
    try:
        check_file(path)
        with safe_open(path, framework="pt") as file:
            found, stamped = set(file.keys()), file.metadata() or {}
            parts = {name: file.get_slice(name) for name in wanted if name in found}
            kinds = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
    except FileError as error:
        told = "is missing" if error.is_missing else f"is truncated or not a safetensors file ({error.reason})"
        raise RunFolderError(f"{path} {told}; {AGAIN}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFolderError(f"{path} is truncated or not a safetensors file ({error}); {AGAIN}") from error
    if missing := [name for name in (*names, *wanted) if name not in found]:
        raise RunFolderError(
            f"{path} is not what ddm wrote there: it lacks {missing[0]!r} and holds {sorted(found)[:3]}; {AGAIN}"
        )
    if any(stamped.get(key) != value for key, value in (stamp or {}).items()):
        raise RunFolderError(f"{path} is not what ddm wrote there: it comes from another run; {AGAIN}")
    if unfit := [name for name, each in wanted.items() if kinds[name] != (tuple(each.shape), _TYPES.get(each.dtype))]:
        raise RunFolderError(f"{path} is not what ddm wrote there: {unfit[0]!r} has another shape or type; {AGAIN}")


_TYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
"""Names of the types in a header, as far as they are checked."""
