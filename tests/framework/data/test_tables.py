"""Tables that people write: what is read of them, and each that would be misunderstood."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddm_framework.data import read_table
from ddm_framework.errors import DataError


def written(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("empty", ["\n", "  \n", ",,\n", " , ,\n"])
def test_empty_lines_are_passed_over(tmp_path: Path, empty: str) -> None:
    table = read_table(written(tmp_path, f'path,label\n{empty}"a, b.png", cat \n{empty}c.png,dog,,\n{empty}'), "rule")
    assert table.columns == ("path", "label")
    assert list(table.rows) == [
        (3, {"path": "a, b.png", "label": "cat"}),
        (5, {"path": "c.png", "label": "dog"}),
    ]


def test_a_comma_without_quotes_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"list.csv:3: there are 3 cells for 2 columns; put what holds a comma in double"
    ):
        read_table(written(tmp_path, "path,label\na.png,cat\nb.png,cat, black\n"), "rule")


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has two columns of the name 'label'; rule"):
        read_table(written(tmp_path, "path,label,label\na.png,cat,dog\n"), "rule")
