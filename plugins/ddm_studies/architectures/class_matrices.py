"""Matrices of what deleting each class does to the queries of each, and how far two of them agree (Fig. 3, 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ddm_framework.online import Queries
from ddm_framework.runs import Workspace
from ddm_framework.truth import leave_one_out_spearman


@dataclass(frozen=True, slots=True)
class Seen:
    """What one network says.

    Attributes:
        name: of the network.
        settings: its options and matching, in words.
        effect: mean effect on queries of each class (rows) of deleting each class (columns), float64 (1 + R, L, L);
            first over the queries as they are, then over R resamples of them, the same for every network.
        exact: the same by exact retraining, or None where it was not asked for.
        accuracy: on the test split.
    """

    name: str
    settings: str
    effect: Tensor
    exact: Tensor | None
    accuracy: float

    @property
    def matrix(self) -> Tensor:
        """Over the queries as they are, (L, L)."""
        return self.effect[0]


class Measured(NamedTuple):
    """A figure and its 95 % interval over queries; None where a class has a single one."""

    value: float
    interval: tuple[float, float] | None


def draws(workspace: Workspace, asked: Queries, resamples: int) -> list[Tensor]:
    """For each class, the share of each of its n queries in a mean, float64 (1 + R, n): all alike, then R resamples.

    Where a class has one query, there is nothing to resample and R = 0.
    """
    assert asked.labels is not None
    random, counts = workspace.generator("bootstrap", "architectures"), asked.labels.cpu().bincount().tolist()
    repeats = resamples if min(counts) > 1 else 0
    shares = []
    for count in counts:
        drawn = torch.randint(count, (repeats, count), generator=random)
        times = torch.zeros(repeats, count).scatter_add_(1, drawn, torch.ones(repeats, count))
        shares.append(torch.cat([torch.ones(1, count), times]).double() / count)
    return shares


def class_means(effect: Tensor, labels: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """Mean (1 + R, L, L) over the queries of each class of effects (N, L), by what `draws` gives."""
    effect = effect.double().cpu()
    return torch.stack([each @ effect[labels == label] for label, each in enumerate(shares)], 1)


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Mean over rows of the rank correlation within each, (1 + R,), of matrices (1 + R, rows, L)."""
    return leave_one_out_spearman(one.flatten(0, 1), other.flatten(0, 1)).view(len(one), -1).mean(1)


def between(matrices: Sequence[Tensor]) -> Tensor:
    """The mean agreement of two of them, (1 + R,)."""
    return torch.stack([agreement(one, other) for one, other in combinations(matrices, 2)]).mean(0)


def own_class_first(effect: Tensor) -> Tensor:
    """Share (1 + R,) of the classes whose queries are moved most by deleting their own class."""
    return (effect.argmax(2) == torch.arange(effect.shape[2])).double().mean(1)


def measured(drawn: Tensor, lowest: float = -1.0) -> Measured:
    """The first of 1 + R values, with the interval of the others.

    Resampling adds noise, which lowers agreement: resamples are shifted so that their mean is the measured value.
    """
    value = float(drawn[0])
    if len(drawn) == 1:
        return Measured(value, None)
    shifted = (drawn[1:] + value - drawn[1:].mean()).clamp(lowest, 1)
    low, high = shifted.quantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Measured(value, (low, high))


def similar(seen: Sequence[Seen]) -> Measured:
    """How far two networks agree, in the mean over all pairs."""
    return measured(between([each.effect for each in seen]))
