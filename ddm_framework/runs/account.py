"""What attributors cost: offline work is counted once, and kept apart from the cost of a question."""

from __future__ import annotations

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

    def enter(self, elapsed: float, charged: float | None = None, once: str = "") -> None:
        """Record a piece of work.

        Args:
            elapsed: seconds that it took now.
            charged: seconds that it took originally, if it was done before.
            once: name of an artifact that is counted only the first time.
        """
        self.elapsed += elapsed
        if once in self._known:
            return
        if once:
            self._known.add(once)
        self.charged += elapsed if charged is None else charged

    def clear(self) -> None:
        """Start again from zero."""
        self.charged = self.elapsed = 0.0
        self._known.clear()
