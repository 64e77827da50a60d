"""Influence functions: the first-order change of the weights when a cluster is left out of the training loss."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_attributors.gauss_newton import by_conjugate_gradients, by_lissa
from ddm_attributors.isolation import undisturbed
from ddm_attributors.moves import effects_of, pulls
from ddm_framework import attributor
from ddm_framework.network import curvature_rows
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


@attributor(linear=True, logits=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    solver: Literal["cg", "lissa"] = "cg",
    damping: Annotated[float, Field(gt=0)] = 0.1,
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 4096,
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 25,
    depth: Annotated[int, Field(ge=1, le=1_000_000)] = 200,
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32,
    repeats: Annotated[int, Field(ge=1, le=1_000_000)] = 1,
    at: Literal["target", "trajectory"] = "target",
) -> Tensor:
    """Effect of deleting each cluster: ∇f·(H + damping)⁻¹Σ∇L / n at the target, by dattri's CG or LiSSA.

    H is the Gauss-Newton matrix of the mean training loss plus the weight decay. It is positive semidefinite, unlike
    the Hessian of a network, and equals the Hessian for a linear model. As it is symmetric, its inverse is applied to
    the K gradients of the clusters instead of those of the queries, once for all questions.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
        solver: `cg`, conjugate gradients, or `lissa`, a stochastic recursion.
        damping: added to the diagonal of H.
        rows: largest number of rows R with H = RᵀR; if images times classes exceed it, rows are drawn and weighted.
        iterations: of conjugate gradients.
        depth: steps of LiSSA's recursion.
        batch_size: rows drawn for each step and cluster.
        repeats: recursions that are averaged.
        at: where the clusters' gradients are taken: at θ_τ, or as the mean over the saved epochs of the trajectory.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if dattri is not installed or the objective has no gradient.
    Source: Koh and Liang 2017, Understanding Black-box Predictions via Influence Functions, Sec. 2.1, 3; Martens 2010.
    """
    network, target, budget = workspace.network, workspace.target, workspace.budget
    damping += workspace.recipe.training.weight_decay
    with workspace.offline_work(), undisturbed(workspace.device):
        draws = workspace.generator("koh")
        torch.manual_seed(draws.initial_seed())
        matrix = curvature_rows(network, target, workspace.data.train.images, rows, budget, draws)
        checkpoints = [max(workspace.trajectory)] if at == "target" else list(workspace.trajectory)
        pulled = torch.stack([pulls(workspace, each) for each in checkpoints]).mean(0)
        if solver == "cg":
            moves = by_conjugate_gradients(matrix, pulled, damping, iterations, budget, "koh")
        else:
            moves = by_lissa(matrix, pulled, damping, depth, batch_size, repeats, budget, "koh")
    return effects_of(workspace, queries, objective, moves)
