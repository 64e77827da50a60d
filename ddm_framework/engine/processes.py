"""Worker processes on this machine, by loky, joblib's engine.

What loky does not do by itself is here: workers end soon after the process that started them, however it ended; nothing
is imported from the current folder because one stands in it; and Ctrl-C goes to that process alone, which ends them.
"""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.process_executor import BrokenProcessPool

from ddm_framework.engine.alone import ALONE
from ddm_framework.engine.interface import ENDING, Work, nothing
from ddm_framework.engine.tasks import Common, execute, packed, result_of
from ddm_framework.errors import DDMError

IDLE_SECONDS = 60.0
"""After which a worker without a task leaves."""
WATCH_SECONDS = 0.5
"""How often a worker looks whether the process that started it is still there."""
_AHEAD = 2
"""Tasks for each worker that are on their way: one that is done, and one that waits for it."""
_ENDED = (
    "the system ended a worker, most likely because the memory ended; lower memory_mb, or raise `threads`, which makes"
    " workers fewer"
)


class Processes:
    """Other processes of this machine.

    Attributes:
        workers: how many; one process alone starts none.
        threads: of each.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.workers, self.threads = workers, threads

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
        """Do the tasks; see `Engine.results`. What cannot be sent to other processes is done in this one."""
        sent = self._sent(work, common) if min(self.workers, count) > 1 else None
        if sent is None:
            yield from ALONE.results(work, common, tasks, count, units=units, advance=advance)
            return
        pool, left = _taken(self.workers, self.threads), count
        try:
            for found in _done(pool, sent, tasks, units, advance):
                left -= 1
                yield found
        except BrokenProcessPool as error:
            raise DDMError(_why(error)) from error
        finally:
            if left:
                pool.end()
            else:
                _IDLE.append(pool)

    def _sent(self, work: Work, common: Any) -> Common | None:
        """What is common, packed; None if it cannot leave this process, as some modules of users cannot."""
        try:
            return Common.of(work, common, self.threads)
        except Exception:  # whatever hangs on it can raise anything
            return None


def _done(
    pool: _Pool, sent: Common, tasks: Iterable[Any], units: int, advance: Callable[[], None]
) -> Iterator[tuple[int, Any]]:
    """The results of the tasks as they come; few tasks are on their way at a time, for each holds memory."""
    running: dict[Future[bytes | None], tuple[int, bytes]] = {}
    known = replace(sent, content=None)

    def submit(number: int, task: bytes, common: Common) -> None:
        with _apart():
            running[pool.submit(execute, common, task)] = number, task

    def finished() -> Iterator[tuple[int, Any]]:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for each in sorted(done, key=running.__getitem__):
            number, task = running.pop(each)
            content = each.result()
            if content is None:
                submit(number, task, sent)
                continue
            found = result_of(content)
            for _ in range(units):
                advance()
            yield number, found

    for number, task in enumerate(tasks):
        # What is common goes to each worker once: most likely with its first task, or when it says that it lacks it.
        submit(number, packed(task), sent if number < pool.workers else known)
        while len(running) >= _AHEAD * pool.workers:
            yield from finished()
    while running:
        yield from finished()


def _why(error: BrokenProcessPool) -> str:
    """What ended a worker."""
    told = " ".join(str(error).split())
    return _ENDED if "SIGKILL" in told else f"a worker ended before its work was done: {told[:300]}"


class _Pool(ProcessPoolExecutor):  # type: ignore[misc] # it has no types
    """Workers, which start with their first task and leave when there was none for a while."""

    def __init__(self, workers: int, threads: int) -> None:
        self.workers, self.known = workers, _known_by(workers, threads)
        environment = {"OMP_NUM_THREADS": str(threads), **_harmless()}
        super().__init__(workers, timeout=IDLE_SECONDS, initializer=_begin, initargs=(os.getpid(),), env=environment)
        ENDING.append(self.end)

    def end(self) -> None:
        """End the workers at once, whatever they do."""
        with suppress(ValueError):
            ENDING.remove(self.end)
        with suppress(ValueError):
            _IDLE.remove(self)
        self.shutdown(kill_workers=True)

    @property
    def is_whole(self) -> bool:
        """Whether it takes tasks: nobody ended it, and the system none of its workers."""
        return not self._flags.broken and not self._flags.shutdown


_IDLE: list[_Pool] = []
"""Pools whose tasks are all done, kept for the next ones: workers take seconds to start."""
if hasattr(os, "register_at_fork"):  # the workers are those of the process that was forked
    os.register_at_fork(after_in_child=_IDLE.clear)
    os.register_at_fork(after_in_child=ENDING.clear)


def _taken(workers: int, threads: int) -> _Pool:
    """A pool for one set of tasks alone: one that was started before in the same surroundings, or a new one."""
    wanted = _known_by(workers, threads)
    while _IDLE:
        pool = _IDLE.pop()
        if pool.known == wanted and pool.is_whole:
            return pool
        pool.end()
    _start_trackers()
    return _Pool(workers, threads)


def _known_by(workers: int, threads: int) -> tuple[object, ...]:
    """What a worker takes over when it starts."""
    return workers, threads, os.getpid(), Path.cwd(), tuple(sys.path), tuple(_harmless().items())


def _harmless() -> dict[str, str]:
    """Variables by which Python finds the modules that are meant: none because it was started in their folder."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join([*filter(None, given), own]), "PYTHONSAFEPATH": "1"}


_STARTING = threading.Lock()


def _start_trackers() -> None:
    """Start the processes that tidy up after killed ones, which have this process's own variables."""
    # Of semaphores that a killed process left, they would write several lines before they remove them.
    chosen = {**_harmless(), "PYTHONWARNINGS": "ignore"}
    with _STARTING:
        before = {name: os.environ[name] for name in chosen if name in os.environ}
        os.environ.update(chosen)
        try:
            multiprocessing.resource_tracker.ensure_running()
            resource_tracker.ensure_running()
        finally:
            for name in chosen:
                del os.environ[name]
            os.environ.update(before)


@contextmanager
def _apart() -> Iterator[None]:
    """Workers that start within hear no Ctrl-C: the terminal sends it to all, and this process ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: int) -> None:
    """What a worker does first."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this worker when another process has taken the place of the one that started it."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    with suppress(OSError):
        os._exit(1)
