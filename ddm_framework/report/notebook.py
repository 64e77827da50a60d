"""What notebooks show of a run or an answer: small tables of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ddm_framework.errors import readable

MOST_ROWS = 10
"""Rows that a table shows."""


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as HTML, with every text escaped; rows after the tenth are counted.

    Args:
        caption: above it.
        columns: their headings; none for a table without a head.
        rows: a cell for each column.
    """
    listed = [*rows]
    head = f"<thead><tr>{''.join(f'<th>{_told(each)}</th>' for each in columns)}</tr></thead>" if columns else ""
    body = "".join(f"<tr>{''.join(f'<td>{_told(each)}</td>' for each in row)}</tr>" for row in listed[:MOST_ROWS])
    more = f"<p>and {len(listed) - MOST_ROWS} more</p>" if len(listed) > MOST_ROWS else ""
    return f"<table><caption>{_told(caption)}</caption>{head}<tbody>{body}</tbody></table>{more}"


def _told(value: Any) -> str:
    return escape(f"{value:.4g}" if isinstance(value, float) else readable(str(value)))
