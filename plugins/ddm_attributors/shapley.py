"""Shapley values of training samples for a nearest-neighbour classifier on the network's features."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework.offline import penultimate
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    neighbours: Annotated[int, Field(ge=1)] = 10,
) -> Tensor:
    """Worth of each cluster to a k-nearest-neighbour classifier that says what the network says.

    The worth of a set of samples is the share of its `neighbours` nearest members whose class the network predicts for
    the query, in the input of the last linear layer. The Shapley value of a cluster is the sum of its samples'.

    Args:
        queries: N of them.
        objective: any; its direction decides the sign of the effects, which have no unit.
        neighbours: k.
    Returns:
        float64 (N, K, m), the same for all m behaviours; N = 1 for a set-level objective, the mean over queries.
    Raises:
        DDMError: if the network has no linear layer.
    Source: Jia et al. 2019, Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms, Theorem 1.
    """
    train, partition = workspace.data.train, workspace.partition
    with workspace.offline_work():
        features = penultimate(workspace.network, workspace.target, train.images).double()
    asked = penultimate(workspace.network, workspace.target, queries.images).double()
    reference = workspace.reference(queries)
    said = reference.target_logits.argmax(1)
    worth = torch.zeros(len(queries), partition.num_clusters, dtype=torch.float64, device=features.device)
    size = workspace.budget.items(8 * len(train), most=256)
    for rows in torch.arange(len(queries), device=features.device).split(size):
        agrees = (train.labels.to(said.device) == said[rows, None]).double()
        values = shapley_values(torch.cdist(asked[rows], features), agrees, neighbours)
        worth[rows] = worth[rows].index_add_(1, partition.clusters, values)
    effect = {"larger": worth, "smaller": -worth, "nearest_zero": worth}[objective.more_influential]
    if objective.declaration.set_level:
        effect = effect.mean(0, keepdim=True)
    return effect[:, :, None].repeat(1, 1, objective.measure(reference.target_logits, reference).shape[1])


def shapley_values(distances: Tensor, agrees: Tensor, neighbours: int) -> Tensor:
    """Of each training sample for each query, (N, n).

    Args:
        distances: of queries to samples, (N, n).
        agrees: 1 where the sample has the query's class, (N, n).
        neighbours: k.
    """
    count = distances.shape[1]
    order = distances.argsort(stable=True, dim=1)
    ranked = agrees.gather(1, order)
    place = torch.arange(1, count, dtype=ranked.dtype, device=ranked.device)
    steps = (ranked[:, :-1] - ranked[:, 1:]) / neighbours * place.clamp(max=neighbours) / place
    # From the farthest sample inwards: each differs from the next by a term of these two alone.
    last = ranked[:, -1:] * min(neighbours, count) / neighbours / count
    values = torch.cat([steps.flip(1).cumsum(1).flip(1) + last, last], 1)
    return torch.zeros_like(values).scatter_(1, order, values)
