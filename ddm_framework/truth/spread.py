"""How wrong an estimated effect may be: an interval that widens with the effect, from retrainings left out in turn.

Small effects have small errors and large ones large errors, so the error of an estimate x is compared with
σ(x) = sqrt(a² + b² x²), whose a and b are fitted to all errors as if they were normal. The wanted share of the ratios
|error| / σ gives a first half-width. Of the clusters that matter most to a query, which are those that a sentence is
about, the same share of |error| / |x| gives a second one. The wider of the two holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.9
"""Share of the intervals that should hold the truth."""
_FEWEST = 10
"""With fewer effects of clusters that matter, their quantile says nothing."""
_STEPS = 33


@dataclass(frozen=True, slots=True)
class Spread:
    """How wide the interval of an estimate is.

    Attributes:
        floor: half-width at an effect of zero, in the unit of the effects.
        slope: half-width as a share of a large effect.
        near: half-width as a share of the effect of a cluster that matters, at least.
        level: share of intervals that hold the truth.
    """

    floor: float
    slope: float
    near: float
    level: float

    def half_width(self, estimated: Tensor) -> Tensor:
        """Of the interval around each estimate, in the same unit and shape."""
        size = estimated.abs()
        return torch.maximum((self.floor**2 + (self.slope * size) ** 2).sqrt(), self.near * size)


def fit_spread(estimated: Tensor, true: Tensor, matters: Tensor, level: float = LEVEL) -> Spread:
    """Fit the spread to estimates of effects that are known, each made without its own truth.

    Args:
        estimated: (N, S), effects of S clusters on N queries.
        true: (N, S).
        matters: bool (N, S), whether the cluster is among the first ones of the query.
        level: wanted coverage, between 0 and 1.
    Raises:
        ValueError: if shapes differ or a value is not finite.
    Source: quasi-likelihood for a and b; the quantiles as in split conformal prediction, Vovk et al. 2005, with
        normalised scores, Lei et al. 2018.
    """
    if not estimated.shape == true.shape == matters.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (estimated, true, matters))
        raise ValueError(f"estimated, true and matters must have one shape; they have {shapes}")
    estimated, true = estimated.double().cpu(), true.double().cpu()
    if not bool(torch.isfinite(estimated).all() and torch.isfinite(true).all()):
        raise ValueError("estimated or true holds NaN or infinity")
    size, error = estimated.abs().flatten(), (true - estimated).abs().flatten()
    floor, slope = _likeliest(size, error)
    reach = conformal_quantile(error / (floor**2 + (slope * size) ** 2).sqrt(), level)
    first = matters.cpu() & (estimated != 0)
    ratios = (true - estimated).abs()[first] / estimated.abs()[first]
    near = conformal_quantile(ratios, level) if len(ratios) >= _FEWEST else 0.0
    return Spread(reach * floor, reach * slope, near, level)


def conformal_quantile(scores: Tensor, level: float) -> float:
    """The smallest score that at least (n + 1) · level of n + 1 exchangeable ones do not exceed; the largest at most.

    Args:
        scores: (n,), n of 1 or more.
        level: between 0 and 1.
    """
    count = len(scores)
    place = min(count, math.ceil(level * (count + 1)))
    return float(scores.sort().values[place - 1])


def _likeliest(size: Tensor, error: Tensor) -> tuple[float, float]:
    """a and b of σ(x) with the largest normal likelihood, on a logarithmic grid."""
    unit = float(error.square().mean().sqrt())
    if unit == 0:
        return 1.0, 1.0  # no error at all: every ratio is 0
    large = float(size.square().mean().sqrt()) or unit
    steps = torch.logspace(-3, 0.5, _STEPS, dtype=torch.float64).tolist()
    squares, errors = size.square(), error.square()

    def cost(floor: float, slope: float) -> float:
        variance = floor**2 + slope**2 * squares
        return float((errors / variance + variance.log()).mean())

    tried = [(unit * low, unit / large * high) for low in steps for high in steps]
    return min(tried, key=lambda pair: cost(*pair))
