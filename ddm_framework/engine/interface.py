"""What every engine does: tasks in, results out as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

Work = Callable[[Any, Any, Callable[[], None]], Any]
"""(what is common to all tasks, a task, what to call after each unit of it) -> its result.

It takes values and returns values: it opens no run folder and leaves nothing behind, so it can be done anywhere, and it
depends on nothing else, so it can be done again where a machine died.
"""


def nothing() -> None:
    """Nobody watches."""


class Engine(Protocol):
    """Whoever does independent tasks."""

    @property
    def workers(self) -> int:
        """Tasks that are done at a time."""
        ...

    def results(
        self,
        work: Work,
        common: Any,
        tasks: Iterable[Any],
        count: int,
        *,
        units: int = 1,
        advance: Callable[[], None] = nothing,
    ) -> Generator[tuple[int, Any]]:
        """Do the tasks, in any order.

        Close the iterator (`contextlib.closing`) to cancel what is not done.

        Args:
            work: a function.
            common: what all tasks need; each worker gets it once.
            tasks: asked for when there is somebody to do them.
            count: how many there are.
            units: that each task consists of.
            advance: called after each unit, or several times at the end of a task that is done elsewhere.
        Yields:
            The number of a task, from 0, and its result, as they come.
        Raises:
            DDMError: as the work raised it, or if a worker was ended from outside.
        """
        ...


def in_order(results: Iterator[tuple[int, Any]]) -> Generator[Any]:
    """The results in the order of their tasks; those that come too early wait."""
    early: dict[int, Any] = {}
    wanted = 0
    for number, found in results:
        early[number] = found
        while wanted in early:
            yield early.pop(wanted)
            wanted += 1


ENDING: list[Callable[[], None]] = []
"""What ends the workers that were started."""


def end_all() -> None:
    """End all workers at once, because this process ends: those that wait, and those of an iterator left open."""
    while ENDING:
        ENDING.pop()()
