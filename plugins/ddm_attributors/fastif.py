"""FastIF: influence functions of the training images nearest to a query, with a cheap approximation of the inverse."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ddm_attributors.gauss_newton import by_lissa
from ddm_attributors.gradients import behaviour_of, gradients, loss_of
from ddm_attributors.isolation import undisturbed
from ddm_attributors.slopes import gathered, slopes
from ddm_framework import attributor
from ddm_framework.network import curvature_rows, num_weights
from ddm_framework.offline import penultimate
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


@attributor(linear=True, logits=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    neighbours: Annotated[int, Field(ge=1, le=1_000_000)] = 50,
    damping: Annotated[float, Field(gt=0)] = 0.1,
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 2048,
    depth: Annotated[int, Field(ge=1, le=1_000_000)] = 100,
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 8,
    repeats: Annotated[int, Field(ge=1, le=1_000_000)] = 1,
) -> Tensor:
    """Effect of deleting each cluster: ∇f·(H + damping)⁻¹∇L / n, summed over its images near the query.

    The product of the inverse with the query's gradient ("s_test") comes from a short LiSSA recursion with small
    batches, by dattri. Images beyond the nearest ones in penultimate features are taken to have no influence.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
        neighbours: number of training images whose influence on a query is computed.
        damping: added to the diagonal of H, the Gauss-Newton matrix of the mean training loss.
        rows: largest number of rows R with H = RᵀR, from which batches are drawn.
        depth: of the recursion.
        batch_size: rows drawn for each step and query.
        repeats: recursions that are averaged.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if dattri is not installed, the objective has no gradient, or the network has no penultimate features.
    Source: Guo et al. 2021, FastIF: Scalable Influence Functions for Efficient Model Interpretation, Sec. 3.
    """
    network, target, budget = workspace.network, workspace.target, workspace.budget
    train, reference = workspace.data.train, workspace.reference(queries)
    directions = slopes(objective, reference.target_logits, reference)
    damping += workspace.recipe.training.weight_decay
    draws = workspace.generator("fastif")
    with workspace.offline_work():
        matrix = curvature_rows(network, target, train.images, rows, budget, draws)
        features = penultimate(network, target, train.images)
    near = _nearest(features, penultimate(network, target, queries.images), neighbours).to(workspace.device)
    effects: list[Tensor] = []
    size = budget.items(2 * num_weights(target) + 4 * len(train), most=512)
    with undisturbed(workspace.device):
        torch.manual_seed(draws.initial_seed())
        for slope in directions:
            parts = []
            for low in range(0, len(queries), size):
                part = slice(low, low + size)
                asked = gradients(behaviour_of(network), network, target, queries.images[part], slope[part], budget)
                rises = torch.cat(list(asked))
                moves = by_lissa(matrix, rises, damping, depth, batch_size, repeats, budget, "fastif")
                parts.append(_summed(workspace, moves, near[part]))
            effects.append(torch.cat(parts))
    return gathered(objective, effects)


def _nearest(features: Tensor, queries: Tensor, count: int) -> Tensor:
    """Positions (N, count) of the training images nearest to each query, by Euclidean distance."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(count, len(features))).fit(features.numpy())
    return torch.from_numpy(search.kneighbors(queries.numpy(), return_distance=False))


def _summed(workspace: Workspace, moves: Tensor, near: Tensor) -> Tensor:
    """Influence (N, K) of each cluster's near images; `moves` (N, weights) are inverse times queries' gradients."""
    train, partition, budget = workspace.data.train, workspace.partition, workspace.budget
    influence = moves.new_zeros(len(moves), len(train), dtype=torch.float64)
    network, done = workspace.network, 0
    for slope in gradients(loss_of(network), network, workspace.target, train.images, train.labels, budget):
        influence[:, done : done + len(slope)] = (moves @ slope.T).double()
        done += len(slope)
    counted = torch.zeros_like(influence).scatter_(1, near, influence.gather(1, near))
    total = influence.new_zeros(len(moves), partition.num_clusters)
    return total.index_add_(1, partition.clusters, counted) / len(train)
