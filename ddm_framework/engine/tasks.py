"""What travels to workers and back, as bytes that both engines carry: values, and errors in place of results."""

from __future__ import annotations

import pickle
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cloudpickle

from ddm_framework.engine.interface import Work, nothing
from ddm_framework.errors import DDMError
from ddm_framework.plugin.registry import LOCAL_PREFIX
from ddm_framework.resources import keep_freed_memory


@dataclass(frozen=True, slots=True)
class Common:
    """The work and what all of its tasks need.

    Attributes:
        name: by which a worker knows what it has unpacked already.
        content: packed; None for a worker that has it.
        threads: that each worker computes with.
    """

    name: str
    content: bytes | None
    threads: int

    @classmethod
    def of(cls, work: Work, values: Any, threads: int) -> Common:
        """Pack it; errors are those of `packed`."""
        return cls(uuid.uuid4().hex, packed((work, values)), threads)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a task raised, in the place of its result."""

    error: BaseException


def packed(value: Any) -> bytes:
    """A value as bytes. Code that a worker could not import goes with it: of the main script and of plugin files.

    Raises:
        Exception: of any kind, for what cannot leave its process, such as an open file.
    """
    with _local_plugins_by_value():
        content: bytes = cloudpickle.dumps(value)
        return content


@contextmanager
def _local_plugins_by_value() -> Iterator[None]:
    """A plugin that is a file is known by the name of its module to this process alone."""
    local = [module for name, module in list(sys.modules.items()) if name.startswith(LOCAL_PREFIX)]
    for module in local:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in local:
            cloudpickle.unregister_pickle_by_value(module)


def execute(common: Common, task: bytes) -> bytes | None:
    """Do a task in a worker: its result, packed, or a packed `Failure`; None if it needs what is common first."""
    if common.content is None and common.name not in _KNOWN:
        return None
    try:
        work, values = _unpacked(common)
        return packed(work(values, pickle.loads(task), nothing))
    except Exception as error:
        return _told(error)


def _unpacked(common: Common) -> tuple[Work, Any]:
    """What is common, unpacked once for all tasks that this worker gets."""
    known = _KNOWN.get(common.name)
    if known is None:
        assert common.content is not None
        _KNOWN.clear()
        _prepared(common.threads)
        try:
            known = _KNOWN[common.name] = pickle.loads(common.content)
        except Exception as error:  # whatever hangs on it can raise anything
            raise DDMError(
                f"a worker cannot read the network or the data that it is sent ({type(error).__name__}: {error}); set"
                " `threads` to the number of cores, so that one process does the work"
            ) from error
    return known


_KNOWN: dict[str, tuple[Work, Any]] = {}


@lru_cache(maxsize=1)
def _prepared(threads: int) -> None:
    """Let this process compute as the one that sent the tasks does."""
    import torch  # takes seconds, and a worker that waits for its first task is watched over before

    torch.set_num_threads(threads)
    keep_freed_memory()


def result_of(content: bytes) -> Any:
    """The result of a task.

    Raises:
        DDMError: and whatever else it raised.
    """
    found = pickle.loads(content)
    if isinstance(found, Failure):
        raise found.error
    return found


def _told(error: Exception) -> bytes:
    """A failure as bytes; an error that cannot leave its process becomes one that says the same."""
    kind = type(error).__name__
    for same in (error, DDMError(str(error)) if isinstance(error, DDMError) else RuntimeError(f"{kind}: {error}")):
        try:
            content = packed(Failure(same))
            if str(pickle.loads(content).error) == str(error) or same is not error:
                return content
        except Exception:  # the next one is plain
            continue
    return packed(Failure(RuntimeError(kind)))
