"""Exact retrainings in the background: they outlive the page that asked for them, and end when the server ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from ddm_framework.answers import Without, left_out
from ddm_framework.api import Run
from ddm_framework.app.requests import LeftOut
from ddm_framework.errors import DDMError
from ddm_framework.progress import ProgressDisplay

State = Literal["waiting", "running", "done", "failed", "stopped"]
logger = logging.getLogger(__name__)
MOST_JOBS = 100
MOST_WAITING = 20


class StoppedError(Exception):
    """A job was asked to end."""


@dataclass
class Job:
    """One retraining.

    Attributes:
        number: its name.
        asked: what is left out.
        state: how far it is.
        done, total: epochs.
        message: why it failed.
        seconds: how long it took.
        found: the network, once it is there.
    """

    number: int
    asked: LeftOut
    state: State = "waiting"
    done: int = 0
    total: int = 0
    message: str = ""
    seconds: float = 0.0
    found: Without | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def told(self) -> dict[str, Any]:
        """For the page."""
        clusters, classes, samples = self.asked.ids
        return {
            "number": self.number,
            "left_out": {"clusters": clusters, "classes": classes, "samples": samples},
            **{name: getattr(self, name) for name in ("state", "done", "total", "message", "seconds")},
        }


class Jobs:
    """Retrainings of one run, one after the other in a thread of their own."""

    def __init__(self, run: Run) -> None:
        self._run, self._jobs, self._lock = run, list[Job](), threading.Lock()
        threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(1, "retraining", initializer=torch.set_num_threads, initargs=(threads,))

    def __iter__(self) -> Iterator[Job]:
        with self._lock:
            return iter([*self._jobs])

    def start(self, asked: LeftOut) -> Job:
        """Retrain without what is ticked; the job that does or did just that, where there is one.

        Raises:
            DDMError: if nothing is ticked, or something that does not exist, or too many jobs wait.
        """
        if not left_out(self._run.workspace, *asked.ids).any():
            raise DDMError("nothing is left out; tick clusters, classes or samples first")
        with self._lock:
            for job in self._jobs:
                if job.asked.ids == asked.ids and job.state in ("waiting", "running", "done"):
                    return job
            if sum(each.state == "waiting" for each in self._jobs) >= MOST_WAITING:
                raise DDMError(f"{MOST_WAITING} retrainings wait already; stop some of them, or wait")
            job = Job(1 + max((each.number for each in self._jobs), default=0), asked)
            self._jobs.append(job)
            self._forget()
        self._pool.submit(self._work, job)
        return job

    def stop(self, number: int) -> Job:
        """End a job; an epoch that has begun ends first.

        Raises:
            DDMError: if there is none of this number.
        """
        for job in self:
            if job.number == number:
                job.stop.set()
                if job.state == "waiting":
                    job.state = "stopped"
                return job
        raise DDMError(f"there is no retraining {number}")

    def truth(self, asked: LeftOut) -> Without | None:
        """The network retrained without what is ticked, if a job has made it."""
        return next((job.found for job in self if job.found is not None and job.asked.ids == asked.ids), None)

    def close(self) -> None:
        """End what runs and drop what waits."""
        for job in self:
            job.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _forget(self) -> None:
        """Drop the oldest finished jobs; the bank beside the run folder keeps their networks."""
        while len(self._jobs) > MOST_JOBS:
            finished = next((each for each in self._jobs if each.state not in ("waiting", "running")), None)
            if finished is None:
                return
            self._jobs.remove(finished)

    def _work(self, job: Job) -> None:
        if job.stop.is_set():
            job.state = "stopped"
            return
        job.state, begun = "running", time.monotonic()
        workspace = self._run.workspace.with_online()
        workspace.display = _Progress(job)
        try:
            found = replace(self._run, workspace=workspace).retrained_without(*job.asked.ids)
            found.test_logits  # noqa: B018 - a job that is done can be looked at without waiting
            job.found, job.state = found, "done"
        except StoppedError:
            job.state = "stopped"
        except DDMError as error:
            job.message, job.state = str(error), "failed"
        except Exception as error:  # the thread must live on for the next job
            logger.exception("retraining %s failed", job.number)
            job.message, job.state = f"{type(error).__name__}: {error}", "failed"
        job.seconds = time.monotonic() - begun


class _Progress(ProgressDisplay):
    """Writes the progress of a retraining into its job, and ends it where that was asked for."""

    def __init__(self, job: Job) -> None:
        super().__init__(quiet=True)
        self._job = job

    @contextmanager
    def bar(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:  # noqa: ARG002
        """Count in the job."""
        self._job.total, self._job.done = total, done

        def advance() -> None:
            self._job.done += 1
            if self._job.stop.is_set():
                raise StoppedError

        yield advance
