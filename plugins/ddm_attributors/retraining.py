"""Methods that need exact retrainings: the truth itself, and a datamodel fitted to random subsets."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import attributor
from ddm_framework.online import Objective, Queries, leave_one_out, random_deletions
from ddm_framework.runs import Workspace
from ddm_framework.truth import bank_logits, retrained


def exact(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Retrain without each cluster and measure the effect.

    Args:
        queries: N of them.
        objective: with m behaviours.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Source: Sec. 4.1, "exact-unlearn network".
    """
    bank = retrained(workspace, leave_one_out(workspace.partition.num_clusters)[1:])
    reference = workspace.reference(queries)
    behaviours = _behaviours(workspace, objective, bank_logits(workspace, bank, queries), queries)
    own = objective.measure(reference.target_logits, reference).double().cpu()
    return (behaviours - own).transpose(0, 1).contiguous()


@attributor(linear=True, logits=True)
def datamodel(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    num_retrainings: Annotated[int, Field(ge=2, le=1_000_000)] = 100,
    deleted: Annotated[float, Field(gt=0, lt=1)] = 0.2,
) -> Tensor:
    """Regress behaviours of networks, retrained on random subsets, on the clusters that they kept.

    The penalty is chosen by leave-one-out cross-validation on the retrainings.

    Args:
        queries: N of them.
        objective: with m behaviours.
        num_retrainings: the budget.
        deleted: share of the clusters that each retraining lacks.
    Returns:
        Minus the coefficients, float64 (N, K, m).
    Source: Ilyas et al., Datamodels, 2022.
    """
    from sklearn.linear_model import RidgeCV

    count = workspace.partition.num_clusters
    rows = random_deletions(count, num_retrainings, deleted, workspace.generator("datamodel", num_retrainings))
    bank = retrained(workspace, rows)
    behaviours = _behaviours(workspace, objective, bank_logits(workspace, bank, queries), queries)
    model = RidgeCV(alphas=torch.logspace(-2, 3, 11).tolist(), alpha_per_target=True)
    model.fit(rows.double().numpy(), behaviours.flatten(1).numpy())
    coefficients = torch.as_tensor(model.coef_).reshape(*behaviours.shape[1:], count)
    return -coefficients.transpose(1, 2).contiguous()


def _behaviours(workspace: Workspace, objective: Objective, logits: Tensor, queries: Queries) -> Tensor:
    """Behaviours (R, N, m) of R networks, float64."""
    reference = workspace.reference(queries)
    return torch.stack([objective.measure(each, reference) for each in logits]).double().cpu()
