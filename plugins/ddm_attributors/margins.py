"""Clusters by how much the network believed the labels of their images while it learnt them."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace, belief


def attribute(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Mean area under the margin of each cluster's images: the score by which `ddm audit` orders single images.

    It knows no query and has no unit. Of a whole set it says which clusters to remove first, those whose labels the
    network believed least.

    Args:
        queries: N of them.
        objective: any, with m behaviours.
    Returns:
        float64 (N, K, m), the same for all queries and behaviours; N = 1 for a set-level objective.
    Source: Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking.
    """
    with workspace.offline_work():
        margin, clusters = belief(workspace).margin, workspace.partition.clusters.cpu()
        sizes = workspace.partition.sizes.cpu()
        mean = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, clusters, margin) / sizes
    reference = workspace.reference(queries)
    rows, behaviours = objective.measure(reference.target_logits, reference).shape
    return mean[None, :, None].expand(rows, -1, behaviours).clone()
