"""Matrices of the effect of deleting each class on the queries of each class, and their agreement (Fig. 3, 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import scipy
import torch
from torch import Tensor

from ddm_framework import Queries, Workspace
from ddm_framework.truth import leave_one_out_spearman
from ddm_studies.comparison.measured import Measured


@dataclass(frozen=True, slots=True)
class Seen:
    """The results of one network.

    Attributes:
        name: of the network.
        settings: its options and matching, in words.
        effect: mean effect on the queries of each class (rows) of deleting each class (columns), float64
            (1 + R, L, L). The first is over the queries themselves, the others over R resamples of them, which are the
            same for every network.
        exact: the same by exact retraining, or None without retraining.
        accuracy: on the test split.
    """

    name: str
    settings: str
    effect: Tensor
    exact: Tensor | None
    accuracy: float

    @property
    def matrix(self) -> Tensor:
        """The effect over the queries themselves, (L, L)."""
        return self.effect[0]

    def traced(self, label: int) -> tuple[bool, bool | None]:
        """Whether deleting a class changes its own queries most, by the estimates and by exact retraining."""
        exact = None if self.exact is None else bool(self.exact[0, label].argmax() == label)
        return bool(self.matrix[label].argmax() == label), exact


def draws(workspace: Workspace, asked: Queries, resamples: int) -> list[Tensor]:
    """For each class, the weights of its n queries in a mean, float64 (1 + R, n): first equal, then of R resamples.

    Where a class has only one query, nothing can be resampled and R = 0.
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
    """Mean (1 + R, L, L) of effects (N, L) over the queries of each class, with the weights of `draws`."""
    effect = effect.double().cpu()
    return torch.stack([each @ effect[labels == label] for label, each in enumerate(shares)], 1)


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Rank correlation within each row of two matrices (1 + R, rows, L), as the mean over rows, (1 + R,)."""
    return leave_one_out_spearman(one.flatten(0, 1), other.flatten(0, 1)).view(len(one), -1).mean(1)


def between(matrices: Sequence[Tensor]) -> Tensor:
    """The mean agreement over all pairs of matrices, (1 + R,)."""
    return torch.stack([agreement(one, other) for one, other in combinations(matrices, 2)]).mean(0)


def off_diagonal(effect: Tensor) -> Tensor:
    """The effects of deleting the other classes, (1 + R, L, L - 1) of (1 + R, L, L)."""
    count = effect.shape[2]
    others = ~torch.eye(count, dtype=torch.bool)
    return effect[:, others].view(len(effect), count, count - 1)


def own_class_floor(one: Tensor, other: Tensor) -> float:
    """The agreement within rows that two matrices (L, L) have by the place of each row's own class alone.

    It is the expected rank correlation if the ranks a and b of the own class are as they are and all other ranks are
    random: L (a - m)(b - m) / ((L - 1) S) with m = (L + 1) / 2 and S = L (L² - 1) / 12; 3 / (L + 1) for two rows that
    both put their own class first.
    """
    count = len(one)
    ranks = [torch.from_numpy(scipy.stats.rankdata(each.double().numpy(), axis=1)).diagonal() for each in (one, other)]
    middle, spread = (count + 1) / 2, count * (count**2 - 1) / 12
    expected = count / (count - 1) * (ranks[0] - middle) * (ranks[1] - middle) / spread
    return float(expected.mean())


def own_class_first(effect: Tensor) -> Tensor:
    """Share (1 + R,) of the classes whose queries are affected most by deleting their own class."""
    return (effect.argmax(2) == torch.arange(effect.shape[2])).double().mean(1)


def measured(drawn: Tensor, lowest: float = -1.0) -> Measured:
    """The first of 1 + R values, with the interval of the others.

    Resampling adds noise, which lowers agreement, so the resamples are shifted to have the measured value as mean.
    """
    value = float(drawn[0])
    if len(drawn) == 1:
        return Measured(value)
    shifted = (drawn[1:] + value - drawn[1:].mean()).clamp(lowest, 1)
    low, high = shifted.quantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Measured(value, (low, high))


def mean_floor(matrices: Sequence[Tensor]) -> float:
    """The mean over all pairs of matrices (1 + R, L, L) of what the own classes alone agree by."""
    floors = [own_class_floor(one[0], other[0]) for one, other in combinations(matrices, 2)]
    return sum(floors) / len(floors)
