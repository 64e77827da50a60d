"""Paths, texts and lists of these as people hand them over in Python: understood, or refused in a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ddm_framework.errors import DDMError
from ddm_framework.progress import ProgressDisplay


def path_of(value: Any, name: str) -> Path:
    """A path.

    Raises:
        DDMError: if it is none.
    """
    found = os.fspath(value) if isinstance(value, str | PathLike) else None
    if not isinstance(found, str) or "\0" in found:
        raise DDMError(f"{name}: give a path, not {value!r}")
    return Path(found)


def paths_of(values: Any, name: str) -> list[Path]:
    """Paths; a single one is a list of one.

    Raises:
        DDMError: if they are none.
    """
    if isinstance(values, str | PathLike):
        return [path_of(values, name)]
    return [path_of(each, name) for each in _listed(values, name, "paths")]


def texts_of(values: Any, name: str) -> list[str]:
    """Texts; a single one is a list of one.

    Raises:
        DDMError: if they are none.
    """
    listed = [values] if isinstance(values, str) else _listed(values, name, "texts")
    if wrong := [each for each in listed if not isinstance(each, str)]:
        raise DDMError(f"{name}: give a list of texts; {wrong[0]!r} is a {type(wrong[0]).__name__}")
    return listed


def checked_display(display: Any) -> None:
    """Refuse what cannot show progress.

    Raises:
        DDMError: for anything but a `ProgressDisplay`.
    """
    if not isinstance(display, ProgressDisplay):
        raise DDMError(f"display is a ddm_framework.progress.ProgressDisplay, not a {type(display).__name__}")


def _listed(values: Any, name: str, what: str) -> list[Any]:
    if values is None:
        return []
    if isinstance(values, bytes | Mapping) or not isinstance(values, Iterable):
        raise DDMError(f"{name}: give a list of {what}, not a {type(values).__name__}")
    return list(values)
