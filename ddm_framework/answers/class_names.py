"""Classes as people name them: by name, or by label where no class name is a number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ddm_framework.errors import DDMError, shown, suggestion

MOST_LISTED = 20
_NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?")


def class_id(named: int | str, names: Sequence[str]) -> int:
    """The label of a class by its name or label.

    Where a class name is a number, a number is a name and nothing else: of the classes 1, 2, 4 and 5, `3` is none.

    Raises:
        DDMError: if there is none.
    """
    text = str(named)
    if text in names:
        return list(names).index(text)
    numbers = any(_NUMBER.fullmatch(name.strip()) for name in names)
    if text.isdecimal() and int(text) < len(names) and not numbers:
        return int(text)
    listed = ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")
    why = "; class names are numbers here, so a number is a name" if numbers and text.isdecimal() else ""
    raise DDMError(f"there is no class {shown(text)}{why}{suggestion(text, names)}; classes are {listed}")


def listed_names(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names in some texts, each of which lists one or several, separated by commas.

    A name that holds commas itself is recognised: from the left, the longest piece that is a class name is taken.

    Args:
        texts: as they were typed.
        names: of the classes.
    """
    return [name for text in texts for name in _pieces(text, frozenset(names))]


def _pieces(text: str, names: frozenset[str]) -> Iterator[str]:
    parts, start = text.split(","), 0
    while start < len(parts):
        longest = next((stop for stop in range(len(parts), start, -1) if _known(parts[start:stop], names)), start + 1)
        yield _known(parts[start:longest], names) or parts[start].strip()
        start = longest


def _known(parts: Sequence[str], names: frozenset[str]) -> str | None:
    """The class that these parts name, with or without the spaces around them."""
    text = ",".join(parts)
    return next((each for each in (text, text.strip()) if each in names), None)
