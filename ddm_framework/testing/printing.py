"""What `ddm check` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddm_framework.testing.running import Outcome, Result

_STYLES: dict[Outcome, str] = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def print_results(results: Sequence[Result], what: str, console: Console | None = None) -> None:
    """Every check, with what to do about those that failed, and the counts."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, file=console.file, width=200)
    table = Table("component", "check", "result", "what to do, or why it was skipped", box=None, pad_edge=False)
    for (kind, name), group in groupby(results, lambda result: (result.kind, result.name)):
        component, told = f"{kind} {name}", set[str]()
        for result in group:
            message = "as above" if result.message in told else result.message
            outcome = Text(result.outcome, _STYLES[result.outcome])
            table.add_row(Text(component), Text(result.title), outcome, Text(message))
            component = ""
            told |= {result.message} - {""}
    console.print(table)
    console.print(Text(f"{what}: {in_words(results)}"))


def in_words(results: Sequence[Result]) -> str:
    """`31 passed, 1 failed, 2 skipped in 4.2 seconds`."""
    counts = Counter(result.outcome for result in results)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _STYLES)
    return f"{told} in {sum(result.seconds for result in results):.1f} seconds"


def as_dict(results: Sequence[Result], what: str) -> dict[str, Any]:
    """The same for a program."""
    counts = Counter(result.outcome for result in results)
    return {
        "checked": what,
        **{outcome: counts[outcome] for outcome in _STYLES},
        "results": [result.as_dict() for result in results],
    }
