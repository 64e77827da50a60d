"""The floor of every comparison: random effects."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


def random(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Normally distributed effects; those of a query do not depend on the other queries.

    Args:
        workspace: of the run, whose seed is used.
        queries: N of them.
        objective: any, with m behaviours; each gets its own effects.
    Returns:
        float64 (N, K, m); N = 1 for a set-level objective.
    Source: Table 1, "Random Select".
    """
    target = workspace.reference(queries)
    num_behaviours = objective.measure(target.target_logits, target).shape[1]
    shape = (workspace.partition.num_clusters, num_behaviours)
    asked = ["the whole set"] if objective.declaration.set_level else queries.ids
    drawn = [
        torch.randn(shape, generator=workspace.generator("random", objective.name, each), dtype=torch.float64)
        for each in asked
    ]
    return torch.stack(drawn).to(workspace.device)
