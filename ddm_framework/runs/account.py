"""What attributors cost: offline work is charged once, and told apart from that of a question."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Offline work that attributors asked for.

    Attributes:
        charged: seconds that it cost when it was done, perhaps by an earlier run.
        elapsed: seconds that it took now.
    """

    charged: float = 0.0
    elapsed: float = 0.0
    _known: set[str] = field(default_factory=set, init=False)

    def enter(self, elapsed: float, charged: float | None = None, once: str = "") -> None:
        """Note a piece of work.

        Args:
            elapsed: seconds that it took now.
            charged: seconds that it cost once, where it was found done already.
            once: names an artifact, which is charged the first time alone.
        """
        self.elapsed += elapsed
        if once in self._known:
            return
        if once:
            self._known.add(once)
        self.charged += elapsed if charged is None else charged

    def clear(self) -> None:
        """Begin a new account."""
        self.charged = self.elapsed = 0.0
        self._known.clear()
