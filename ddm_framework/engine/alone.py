"""One task after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from ddm_framework.engine.interface import Work, nothing


class Alone:
    """This process, which begins a task when its result is asked for."""

    workers = 1

    def results(
        self,
        work: Work,
        common: Any,
        tasks: Iterable[Any],
        count: int,  # noqa: ARG002 - others need it
        *,
        units: int = 1,  # noqa: ARG002 - here the work itself tells of each
        advance: Callable[[], None] = nothing,
    ) -> Generator[tuple[int, Any]]:
        """Do the tasks in their order; see `Engine.results`."""
        for number, task in enumerate(tasks):
            yield number, work(common, task, advance)


ALONE = Alone()
