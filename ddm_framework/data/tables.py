"""Tables that people write: CSV files with a line of names at the top."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddm_framework.errors import DataError, shown
from ddm_framework.files import FileError, read_text

MOST = 2**30
"""Bytes that a table may have."""


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file.

    Attributes:
        columns: their names, as the first line gives them.
        rows: of each line its number in the file and its cells by column, without spaces around them.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[int, dict[str, str]]]


def read_table(path: Path, rule: str) -> Table:
    """The lines of a CSV file; empty lines, and what a spreadsheet puts before the first name, are passed over.

    Args:
        path: the file.
        rule: what it ought to hold, for the message.
    Raises:
        DataError: if it is no such file, two columns have one name, or naming a line with more cells than columns.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, MOST).removeprefix("\ufeff"), newline=""), strict=True)
        columns = tuple(name.strip() for name in reader.fieldnames or ())
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader]
    except (FileError, csv.Error) as error:
        told = error if isinstance(error, FileError) else f"{path} cannot be read as a table: {error}"
        raise DataError(f"{told}; {rule}") from error
    if twice := next((name for name in columns if name and columns.count(name) > 1), None):
        raise DataError(f"{path} has two columns of the name {shown(twice)}; {rule}")
    cells = [(line, _cells(path, line, row, columns)) for line, row in rows]
    return Table(columns, [(line, each) for line, each in cells if any(each.values())])


def _cells(path: Path, line: int, row: dict[Any, Any], columns: Sequence[str]) -> dict[str, str]:
    """The cells of a line by column, without spaces around them; `csv` puts what is too much under None."""
    beyond = row.pop(None, [])
    if any(map(str.strip, beyond)):
        raise DataError(
            f"{path}:{line}: there are {len(columns) + len(beyond)} cells for {len(columns)} columns; put what holds a"
            " comma in double quotes"
        )
    return {name: (cell or "").strip() for name, cell in row.items() if name}
