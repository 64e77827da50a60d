"""What memory and cores there are, refusal of what will not fit, and a sentence where memory ends all the same."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddm_framework.errors import DDMError

_ENDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "Storage size calculation overflowed",
    "Invalid buffer size",
    "unable to mmap",
    "array is too big",
    "Unable to allocate",
    "maximum allowed dimension",
    "vector::_M_default_append",
    "length_error",
)
"""What PyTorch, NumPy and the C++ library say when memory ends, or when a size is beyond any memory."""


class MemoryShortageError(DDMError):
    """Something does not fit into the memory; the message names what to lower."""


def free_memory() -> int | None:
    """Bytes that this process can still take: of the machine, of its control group and of its own limits.

    None if the system does not tell.
    """
    known = [each for each in (_of_machine(), _of_control_group(), _of_limits()) if each is not None]
    return max(min(known), 0) if known else None


def check_fits(num_bytes: float, what: str, lower: str, free: int | None = None) -> None:
    """Refuse what this machine cannot hold, before any of it is allocated.

    Args:
        num_bytes: that it takes, by an estimate.
        what: it is, as the subject of a sentence.
        lower: the settings to lower.
        free: bytes that are free, of an accelerator; of this machine by default.
    Raises:
        MemoryShortageError: with both sizes.
    """
    free = free_memory() if free is None else free
    if free is not None and num_bytes > free:
        raise MemoryShortageError(f"{what} would need about {in_words(num_bytes)}; {in_words(free)} are free; {lower}")


def in_words(num_bytes: float) -> str:
    """A size with its unit, as `36 GB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB", "EB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.0e} EB"


@contextmanager
def memory_told(what: str, lower: str) -> Iterator[None]:
    """Where memory ends within the block, say so in one sentence.

    Args:
        what: was at work, as in `training`.
        lower: the settings to lower.
    Raises:
        MemoryShortageError: for what Python, NumPy, PyTorch or C++ raise.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError, OverflowError) as error:
        if not is_shortage(error):
            raise
        free = free_memory()
        left = "" if free is None else f" ({in_words(free)} are free)"
        raise MemoryShortageError(f"{what} ran out of memory{left}; {lower}") from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error means that memory ended."""
    return isinstance(error, MemoryError) or any(each.lower() in str(error).lower() for each in _ENDS)


def _of_machine() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_control_group() -> int | None:
    """What a container may still take; files that the system holds for it can be dropped."""
    folder = "/sys/fs/cgroup"
    limit, used = _lines(f"{folder}/memory.max"), _lines(f"{folder}/memory.current")
    if not limit or not used or not limit[0].isdecimal():
        return None
    held = dict(line.split() for line in _lines(f"{folder}/memory.stat"))
    return int(limit[0]) - int(used[0]) + int(held.get("inactive_file", 0))


def _of_limits() -> int | None:
    """What `ulimit -v` leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except (ImportError, OSError, ValueError):
        return None
    sizes = _lines("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not sizes:
        return None
    return int(limit) - int(sizes[0].split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


LARGEST_KEPT = 2**30
"""Bytes of the largest tensor, and of all free memory at the end of the heap, that are not returned to the system."""


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next tensors, where the C library is glibc.

    By default glibc returns tensors of some megabytes to the system and fetches them again, zeroed page by page, at
    each step: a seventh of the time of matching and a fifth of that of training on a processor. Settings of the user's
    own, environment variables that begin with MALLOC_, have the last word.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(mmap_threshold, LARGEST_KEPT)
        mallopt(trim_threshold, LARGEST_KEPT)
