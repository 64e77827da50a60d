"""A figure with its interval: how studies pass it on, and what `metrics.json` says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddm_framework.truth import bootstrap_interval


class Measured(NamedTuple):
    """A figure and its 95 % interval; None where there is none, because too little is known."""

    value: float | None
    interval: tuple[float, float] | None = None

    @classmethod
    def read(cls, metrics: Mapping[str, Any], name: str) -> Measured:
        """The figure that `metrics` wrote under a name."""
        interval = metrics.get(f"{name}_interval")
        return cls(metrics[name], None if interval is None else (interval[0], interval[1]))

    def metrics(self, name: str) -> dict[str, Any]:
        """The figure as it stands in `metrics.json`: its value under a name, and `_interval` after the name."""
        return {name: self.value, f"{name}_interval": None if self.interval is None else list(self.interval)}


def bootstrapped(values: Tensor, random: torch.Generator, *, resamples: int) -> Measured:
    """The mean of some values (N,), with its bootstrap interval."""
    return Measured(float(values.mean()), bootstrap_interval(values, random, resamples=resamples))
