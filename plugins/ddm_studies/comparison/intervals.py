"""Confidence intervals for means, differences, shares and medians of a few repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import scipy
from torch import Tensor

LEVEL = 0.95


def mean_interval(values: Tensor) -> tuple[float, float]:
    """95 % interval of a mean by Student's t.

    Args:
        values: (R,), at least two repetitions.
    Source: Student 1908.
    """
    values = values.double()
    error = float(values.std()) / math.sqrt(len(values))
    return _around(float(values.mean()), error, len(values) - 1)


def percent_interval(values: Tensor) -> tuple[float, float]:
    """`mean_interval` of accuracies in per cent, clipped to the range from 0 to 100.

    Args:
        values: (R,), at least two repetitions.
    """
    return clipped(mean_interval(values), 0.0, 100.0)


def clipped(interval: tuple[float, float], least: float, most: float) -> tuple[float, float]:
    """An interval within the range that its figure can have."""
    return max(interval[0], least), min(interval[1], most)


def binomial_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of the share of hits in a number of independent trials.

    Unlike an interval over repetitions, its width is above 0 even for no hits or only hits.

    Args:
        hits: 0 to `count`.
        count: number of trials, at least one.
    Source: Clopper and Pearson 1934.
    """
    found = scipy.stats.binomtest(hits, count).proportion_ci(LEVEL, method="exact")
    return float(found.low), float(found.high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median of repeated measurements, from the r-th lowest to the r-th highest value.

    Args:
        values: at least six; with fewer no such interval has 95 % coverage.
    Returns:
        The narrowest such interval with 95 % coverage. It assumes no distribution of the values.
    Raises:
        ValueError: if there are fewer than six.
    Source: Thompson 1936.
    """
    count = len(values)
    place = int(scipy.stats.binom.ppf((1 - LEVEL) / 2, count, 0.5))
    if place == 0:
        raise ValueError(f"the median of {count} values has no interval of {LEVEL:.0%}; six are needed")
    ordered = sorted(values)
    return ordered[place - 1], ordered[count - place]


def difference_interval(values: Tensor, others: Tensor) -> tuple[float, float]:
    """95 % interval of the difference between two means, whose variances may differ.

    Args:
        values: (R,), at least two.
        others: (S,), at least two, independent of `values`; their mean is subtracted.
    Source: Welch 1947.
    """
    parts = [float(each.double().var()) / len(each) for each in (values, others)]
    spread = sum(part**2 / (len(each) - 1) for part, each in zip(parts, (values, others), strict=True))
    freedom = sum(parts) ** 2 / spread if spread else 1.0
    return _around(float(values.double().mean() - others.double().mean()), math.sqrt(sum(parts)), freedom)


def crossed_interval(values: Tensor) -> tuple[float, float]:
    """95 % interval of a mean over seeds and queries, where every seed answers the same queries.

    Seeds and queries are both drawn at random: the variance of the mean is at most that of the means by seed over S
    plus that of the means by query over N. Few seeds widen the interval by Student's t, with as many degrees of freedom
    as the two parts have together.

    Args:
        values: (S, N), at least two seeds and two queries.
    Source: Satterthwaite 1946.
    """
    values = values.double()
    parts = [float(means.var()) / len(means) for means in (values.mean(1), values.mean(0))]
    total = sum(parts)
    spread = sum(part**2 / (count - 1) for part, count in zip(parts, values.shape, strict=True))
    return _around(float(values.mean()), math.sqrt(total), total**2 / spread if spread else 1.0)


def share_values(gain: Tensor, room: Tensor) -> Tensor:
    """The contribution of each query to a ratio of means, whose mean is that ratio, for `crossed_interval`.

    Args:
        gain, room: (S, N), numerator and denominator of each query; the ratio of each seed is sum(gain) / sum(room).
    Returns:
        (S, N), by the linear expansion of the ratio around its value.
    """
    share = gain.sum(1, keepdim=True) / room.sum(1, keepdim=True)
    return share + (gain - share * room) / room.mean(1, keepdim=True)


def _around(middle: float, error: float, freedom: float) -> tuple[float, float]:
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return middle - reach, middle + reach
