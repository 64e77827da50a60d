"""The distilled datamodel: regress the behaviours of synset-fine-tuned networks on which clusters were there."""

from __future__ import annotations

from torch import Tensor

from ddm_framework.workspace import Objective, Queries, Workspace


def attribute(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Effect of deleting each cluster, by the recipe's matching and online settings.

    Args:
        workspace: the run.
        queries: N of them.
        objective: with m behaviours.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Source: Alg. 1; Eq. 8, 9.
    """
    return workspace.attribution(queries, objective).effect
