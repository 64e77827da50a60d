"""Progress bars with the remaining time on a terminal; no output elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressDisplay:
    """Shows progress on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)

    def say(self, text: str) -> None:
        """One line, on a terminal only."""
        if self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False)

    def tell(self, text: str) -> None:
        """One line that a log should hold too."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
        """A progress bar; call the yielded function after each unit of work."""
        progress = Progress(
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        with progress:
            task = progress.add_task(description, total=total, completed=done)
            yield lambda: progress.advance(task)


SILENT = ProgressDisplay(quiet=True)
