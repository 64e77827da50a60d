"""Tables that people write: CSV files with a line of names at the top."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddm_framework.errors import DataError
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
    """The lines of a CSV file; what a spreadsheet puts before the first name is passed over.

    Args:
        path: the file.
        rule: what it ought to hold, for the message.
    Raises:
        DataError: if it is no such file.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, MOST).removeprefix("\ufeff"), newline=""), strict=True)
        columns = tuple(name.strip() for name in reader.fieldnames or ())
        reader.fieldnames = columns
        rows = [(reader.line_num, {key: (cell or "").strip() for key, cell in row.items() if key}) for row in reader]
    except (FileError, csv.Error) as error:
        told = error if isinstance(error, FileError) else f"{path} cannot be read as a table: {error}"
        raise DataError(f"{told}; {rule}") from error
    return Table(columns, rows)
