"""Influence estimated from similarity: clusters that the network represents like the query (Table 1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ddm_framework.offline import penultimate
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace

First = Literal["most_similar", "least_similar"]


def prediction(
    workspace: Workspace, queries: Queries, objective: Objective, /, *, first: First | None = None
) -> Tensor:
    """Rank clusters by the distance of their mean predicted probabilities from those of the query.

    Args:
        queries: N of them.
        objective: any; its direction decides the sign of the effects, which have no unit.
        first: which clusters come first in the ranking; by default the most similar, except for objectives such as
            stability that look for the cluster of least influence.
    Returns:
        float64 (N, K, m), the same for all m behaviours; N = 1 for a set-level objective, the mean over queries.
    Source: Table 1, "Predict-based".
    """
    with workspace.offline_work():
        centres = _centres(workspace, workspace.target_logits(workspace.data.train.images).softmax(1))
    asked = workspace.target_logits(queries.images).softmax(1)
    return _effect(workspace, queries, objective, asked, centres, first)


def clustering(
    workspace: Workspace, queries: Queries, objective: Objective, /, *, first: First | None = None
) -> Tensor:
    """Rank clusters by the distance of their centre from the query, in the input of the last linear layer.

    Args:
        queries: N of them.
        objective: any; its direction decides the sign of the effects, which have no unit.
        first: which clusters come first in the ranking; by default the most similar, except for objectives such as
            stability that look for the cluster of least influence.
    Returns:
        float64 (N, K, m), the same for all m behaviours; N = 1 for a set-level objective, the mean over queries.
    Raises:
        DDMError: if the network has no linear layer.
    Source: Table 1, "Clustering-based".
    """
    with workspace.offline_work():
        centres = _centres(workspace, penultimate(workspace.network, workspace.target, workspace.data.train.images))
    asked = penultimate(workspace.network, workspace.target, queries.images)
    return _effect(workspace, queries, objective, asked, centres, first)


def _centres(workspace: Workspace, values: Tensor) -> Tensor:
    """Mean of each cluster's members, float64 (K, D)."""
    clusters, sizes = workspace.partition.clusters, workspace.partition.sizes
    sums = torch.zeros(len(sizes), values.shape[1], dtype=torch.float64, device=clusters.device)
    return sums.index_add_(0, clusters, values.double().to(clusters.device)) / sizes[:, None]


def _effect(
    workspace: Workspace, queries: Queries, objective: Objective, asked: Tensor, centres: Tensor, first: First | None
) -> Tensor:
    """Similarity of queries (N, D) and centres (K, D) as effects that the objective ranks in the order of `first`."""
    # Without matrix products, whose rounding errors are large for small distances.
    distances = torch.cdist(asked.double().to(centres.device), centres, compute_mode="donot_use_mm_for_euclid_dist")
    # Divided by the query's mean distance, so that similarities do not depend on the scale of the features.
    likeness = 1 / (1 + distances / distances.mean(1, keepdim=True).clamp_min(1e-12))
    score = likeness if (first or _by_default(objective)) == "most_similar" else 1 - likeness
    effect = {"larger": score, "smaller": -score, "nearest_zero": 1 - score}[objective.more_influential]
    if objective.declaration.set_level:
        effect = effect.mean(0, keepdim=True)
    target = workspace.reference(queries)
    num_behaviours = objective.measure(target.target_logits, target).shape[1]
    return effect[:, :, None].repeat(1, 1, num_behaviours)


def _by_default(objective: Objective) -> First:
    surrogate = objective.declaration.surrogate
    seeks_least = surrogate is not None and surrogate.more_influential == "nearest_zero"
    return "least_similar" if seeks_least else "most_similar"
