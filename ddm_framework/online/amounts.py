"""Amounts: the probability of what a network says, without each cluster, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Amounts:
    """The probability of the class that the target predicts, without each cluster.

    Attributes:
        before: of the target, float64 (N,).
        without: estimated, float64 (N, K).
        low, high: ends of the interval, float64 (N, K); both are `without` where the network was retrained.
        retrained: clusters that the network was really retrained without, bool (K,).
        level: share of intervals that hold the truth.
    """

    before: Tensor
    without: Tensor
    low: Tensor
    high: Tensor
    retrained: Tensor
    level: float


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """Log odds of one class of each query: its logit minus the log-sum-exp of the others.

    Args:
        logits: (..., N, classes).
        classes: int64 (N,).
    Returns:
        float64 (..., N).
    """
    at = classes.to(logits.device).expand(logits.shape[:-1])[..., None]
    exact = logits.double()
    return exact.gather(-1, at)[..., 0] - exact.scatter(-1, at, float("-inf")).logsumexp(-1)


def amounts_from(odds: Tensor, change: Tensor, half_width: Tensor, retrained: Tensor, level: float) -> Amounts:
    """Amounts from changes of the log odds, which have no bounds that an interval could cross.

    Args:
        odds: log odds of the target, (N,).
        change: without each cluster, (N, K).
        half_width: of the interval of the change, (N, K).
        retrained: bool (K,), clusters whose change is known.
        level: share of intervals that hold the truth.
    """
    odds = odds[:, None]
    reach = half_width.masked_fill(retrained, 0.0)
    ends = [torch.sigmoid(odds + change + sign * reach) for sign in (-1, 0, 1)]
    return Amounts(torch.sigmoid(odds[:, 0]), ends[1], ends[0], ends[2], retrained, level)
