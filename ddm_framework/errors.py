"""Errors for users: each message says where the mistake is, what was found and what to write instead."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class DDMError(Exception):
    """A user's mistake, explained in one message; the command line exits with status 2."""


class DataError(DDMError):
    """The data cannot be used as they are."""


class PluginError(DDMError):
    """A plugin or one of its components is broken."""


class RunFolderError(DDMError):
    """A run folder does not hold what was asked for, or cannot be read."""


class DivergenceError(DDMError):
    """Weights, images or gradients became NaN or infinite; the message names the setting to lower."""


Place = tuple[str | int, ...]
"""Keys and positions that lead to a value within a recipe, or within the options of a component."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a recipe file (`line` from 1), or a `--set` argument (`line` None)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a recipe."""

    message: str
    mark: Mark | None = None

    def __str__(self) -> str:
        return f"{self.mark}: {self.message}" if self.mark else self.message


class RecipeError(DDMError):
    """All problems of a recipe, reported together."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def shown(value: object) -> str:
    """The repr of a value, shortened to fit into a message."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        text = f"a {type(value).__name__} too long to write"
    return text if len(text) <= 80 else text[:77] + "..."


def readable(text: str) -> str:
    """A file's or class's name as text that every file can hold: bytes that are no UTF-8 are written out."""
    return os.fsencode(text).decode("utf-8", errors="backslashreplace")


def suggestion(name: str, known: Sequence[str], most: int = 3) -> str:
    """`; did you mean 'kmeans'?` with the nearest known names, or an empty string."""
    near = difflib.get_close_matches(name, known, n=most, cutoff=0.6)
    if not near:
        return ""
    return "; did you mean " + " or ".join(repr(each) for each in near) + "?"
