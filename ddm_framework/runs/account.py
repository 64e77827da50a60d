"""What attributors cost: offline work is counted once, and kept apart from the cost of a question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Offline work that attributors caused.

    Attributes:
        charged: seconds that it took when it was done, perhaps in an earlier run.
        elapsed: seconds that it took in this process.
    """

    charged: float = 0.0
    elapsed: float = 0.0
    _known: set[str] = field(default_factory=set, init=False)


_OPEN: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def open_account() -> Iterator[Ledger]:
    """A new account of all offline work in this block."""
    token = _OPEN.set(ledger := Ledger())
    try:
        yield ledger
    finally:
        _OPEN.reset(token)


def enter(elapsed: float, charged: float | None = None, once: str = "") -> None:
    """Record a piece of work in the account that is open, if there is one.

    Args:
        elapsed: seconds that it took now.
        charged: seconds that it took originally, if it was done before.
        once: name of an artifact that is counted only the first time.
    """
    if (ledger := _OPEN.get()) is None:
        return
    ledger.elapsed += elapsed
    if once in ledger._known:
        return
    if once:
        ledger._known.add(once)
    ledger.charged += elapsed if charged is None else charged
