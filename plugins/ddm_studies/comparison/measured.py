"""A figure with its interval: how studies pass it on, say it, and what `metrics.json` says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ddm_framework.truth import bootstrap_interval

Stored = Mapping[str, Any]
"""An entry of `metrics.json`, or a part of one."""
Outcome = Literal["holds", "does not hold", "not told", "cannot be tested at this size"]
"""Of a claim: its 95 % interval lies wholly on the claim's side, wholly on the other, on both; or nothing tests it."""


class Measured(NamedTuple):
    """A figure and its 95 % interval; None where there is none, because too little is known."""

    value: float | None
    interval: tuple[float, float] | None = None

    @classmethod
    def read(cls, metrics: Stored, name: str) -> Measured:
        """The figure that `metrics` wrote under a name."""
        interval = metrics.get(f"{name}_interval")
        return cls(metrics[name], None if interval is None else (interval[0], interval[1]))

    def metrics(self, name: str) -> dict[str, Any]:
        """The figure as it stands in `metrics.json`: its value under a name, and `_interval` after the name."""
        return {name: self.value, f"{name}_interval": None if self.interval is None else list(self.interval)}

    def words(self, form: str) -> str:
        """`0.50 (0.25 to 0.75)`, each number in a format such as `.2f`; the value alone where it has no interval."""
        value = format(self.value, form)
        return value if self.interval is None else f"{value} ({between(self.interval, form)})"

    def outcome(self, than: float = 0.0) -> Outcome:
        """The outcome of a claim that the figure is above a value; it is not told where there is no interval."""
        return "not told" if self.interval is None else outcome_of(self.interval, than)


def bootstrapped(values: Tensor, random: torch.Generator, *, resamples: int) -> Measured:
    """The mean of some values (N,), with its bootstrap interval."""
    return Measured(float(values.mean()), bootstrap_interval(values, random, resamples=resamples))


def in_words(metrics: Stored, name: str, form: str = ".2f") -> str:
    """A stored figure with its interval, as `Measured.words` says it."""
    return Measured.read(metrics, name).words(form)


def between(interval: Sequence[float], form: str) -> str:
    """`0.25 to 0.75`, each end in a format such as `.2f`."""
    low, high = interval
    return f"{low:{form}} to {high:{form}}"


def outcome_of(interval: Sequence[float], than: float = 0.0) -> Outcome:
    """The outcome of a claim that a figure is above a value, by the figure's 95 % interval [low, high]."""
    low, high = interval
    return "holds" if low > than else "does not hold" if high < than else "not told"
