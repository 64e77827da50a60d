"""The machines of a Ray cluster. They need ddm installed, and no disk in common with this one."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import cached_property
from typing import Any

from ddm_framework.engine.interface import Work, nothing
from ddm_framework.engine.tasks import Common, execute, packed, result_of
from ddm_framework.errors import DDMError

_AHEAD = 2
"""Tasks for each worker that are on their way."""
_CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer."""
_PATIENCE_SECONDS = 1.0
"""How long a wait for results may keep Ctrl-C waiting."""


def _check_answers(address: str | None) -> None:
    """Make sure that somebody listens at HOST:PORT; Ray itself tries for ten minutes before it says that nobody does.

    Raises:
        OSError: if nobody does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()


class Cluster:
    """Workers on the machines of a Ray cluster, as many as have room.

    A worker whose machine dies is replaced, and its task done again. Workers end with this process, as Ray sees to.
    """

    def __init__(self, threads: int, address: str | None = None, gpus: int = 0) -> None:
        """Connect to nothing yet.

        Args:
            threads: of each worker, and so the cores that it is given.
            address: of the cluster; None for one on this machine alone, which starts with the first task.
            gpus: that each worker is given.
        """
        self.threads, self.address, self.gpus = threads, address, gpus

    @cached_property
    def workers(self) -> int:
        """Tasks that the cluster has room for at a time.

        Raises:
            DDMError: if there is no Ray, no cluster, or no room.
        """
        resources = self._ray.cluster_resources()
        found = int(resources.get("CPU", 0)) // self.threads
        if self.gpus:
            found = min(found, int(resources.get("GPU", 0)) // self.gpus)
        if not found:
            raise DDMError(
                f"the Ray cluster has no room for a worker of {self.threads} cores and {self.gpus} GPUs"
                f" (CPU: {resources.get('CPU', 0):g}, GPU: {resources.get('GPU', 0):g} in all); lower `threads`, or"
                " start a node with more"
            )
        return found

    @cached_property
    def _ray(self) -> Any:
        """Ray, connected."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default it reports to its makers
        try:
            import ray
        except ImportError:
            raise DDMError("engine: ray needs Ray; install it with: pip install 'ddm-framework[ray]'") from None
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None:
            options["include_dashboard"] = False
        if not ray.is_initialized():
            try:
                _check_answers(self.address)
                ray.init(address=self.address or "local", **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                told = " ".join(str(error).split())[:300]
                raise DDMError(
                    f"no Ray cluster answers at {self.address} ({told}); start one with `ray up` or `ray start --head`"
                ) from error
        return ray

    def results(
        self,
        work: Work,
        common: Any,
        tasks: Iterable[Any],
        count: int,  # noqa: ARG002 - Ray starts what it needs
        *,
        units: int = 1,
        advance: Callable[[], None] = nothing,
    ) -> Generator[tuple[int, Any]]:
        """Do the tasks; see `Engine.results`.

        Raises:
            DDMError: if the work or the data cannot leave this process too.
        """
        ray, room = self._ray, _AHEAD * self.workers
        try:
            sent = ray.put(Common.of(work, common, self.threads))
        except Exception as error:  # whatever hangs on it can raise anything
            raise DDMError(
                f"the network or the data cannot be sent to other machines ({type(error).__name__}: {error}); take off"
                " what hangs on them, or leave out engine: ray"
            ) from error
        remote = ray.remote(num_cpus=self.threads, num_gpus=self.gpus)(execute)
        running: dict[Any, int] = {}

        def finished() -> Iterator[tuple[int, Any]]:
            done: list[Any] = []
            while not done:
                done, _ = ray.wait(list(running), num_returns=1, timeout=_PATIENCE_SECONDS)
            for each in done:
                found = result_of(ray.get(each))
                for _ in range(units):
                    advance()
                yield running.pop(each), found

        try:
            for number, task in enumerate(tasks):
                running[remote.remote(sent, packed(task))] = number
                if len(running) >= room:
                    yield from finished()
            while running:
                yield from finished()
        except ray.exceptions.RayError as error:
            told = " ".join(str(error).split())[:300]
            raise DDMError(f"the Ray cluster could not finish a task ({type(error).__name__}: {told})") from error
        finally:
            for each in running:
                ray.cancel(each, force=True)
