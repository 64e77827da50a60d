"""Perturbations p in {0, 1}^K, which say which clusters each network keeps (Eq. 7), and their weights β (Eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Online


def leave_one_out(num_clusters: int) -> Tensor:
    """The unperturbed row, then K rows with one cluster deleted in each: float32 (K + 1, K)."""
    return torch.cat([torch.ones(1, num_clusters), 1 - torch.eye(num_clusters)])


def random_perturbations(num_clusters: int, count: int, keep_probability: float, random: torch.Generator) -> Tensor:
    """The unperturbed row, then `count` rows that keep each cluster with some probability: float32 (count + 1, K)."""
    kept = torch.rand(count, num_clusters, generator=random) < keep_probability
    return torch.cat([torch.ones(1, num_clusters), kept.float()])


def random_deletions(num_clusters: int, count: int, share: float, random: torch.Generator) -> Tensor:
    """Rows that each delete the same share of the clusters, chosen at random: float32 (count, K).

    Raises:
        DDMError: if the share rounds to none or to all of the clusters.
    """
    number = round(share * num_clusters)
    if not 0 < number < num_clusters:
        raise DDMError(f"a share of {share} of {num_clusters} clusters is {number}; delete at least one and keep one")
    order = torch.rand(count, num_clusters, generator=random).argsort(1)
    return torch.ones(count, num_clusters).scatter(1, order[:, :number], 0.0)


def design(num_clusters: int, settings: Online, seed: int) -> Tensor:
    """The perturbations of a recipe, (P, K); the first row is the unperturbed one.

    Raises:
        DDMError: if they cannot determine K effects and an intercept.
    """
    if settings.perturbations == "leave_one_out":
        return leave_one_out(num_clusters)
    count = settings.num_perturbations or 2 * num_clusters
    rows = random_perturbations(num_clusters, count, settings.keep_probability, generator(seed, "perturbations"))
    check_determined(rows, settings.ridge)
    return rows


def check_determined(perturbations: Tensor, ridge: float = 0.0) -> None:
    """Refuse perturbations whose rank is too low to determine the effects, unless there is a ridge penalty.

    Raises:
        DDMError: if the rank is too low; the message says what to change.
    """
    count, num_clusters = perturbations.shape
    rank = int(torch.linalg.matrix_rank(torch.cat([perturbations, torch.ones(count, 1)], 1).double()))
    if rank <= num_clusters and ridge == 0:
        raise DDMError(
            f"{count} perturbations of {num_clusters} clusters have rank {rank} and cannot determine "
            f"{num_clusters + 1} unknowns; set online.num_perturbations to {2 * num_clusters} or more, "
            "or online.ridge above 0"
        )


def beta_weights(perturbations: Tensor, beta: str) -> Tensor:
    """β_p of Eq. 8, float64 (P,): `uniform`, or `inverse` = 1 / (1 + number of deleted clusters)."""
    deleted = (1 - perturbations).sum(1).double()
    return torch.ones_like(deleted) if beta == "uniform" else 1 / (1 + deleted)
