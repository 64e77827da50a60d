"""How the weights would move without each cluster, to first order, and what that does to a behaviour."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ddm_attributors.gradients import behaviour_of, gradients
from ddm_attributors.slopes import gathered, slopes
from ddm_framework import DDMError
from ddm_framework.network import flat
from ddm_framework.offline import cluster_gradients
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


def need_training(workspace: Workspace, attributor: str) -> None:
    """Refuse a target whose training is not known, or was no gradient descent.

    Raises:
        DDMError: if the target was trained elsewhere, or by Adam.
    """
    if workspace.recipe.target.checkpoint is not None:
        raise DDMError(
            f"{attributor} follows the training of the target, and this one was trained elsewhere, nobody knows how; "
            "koh, ekfac and trak need its final weights alone"
        )
    if (optimizer := workspace.recipe.training.optimizer) != "sgd":
        raise DDMError(
            f"{attributor} follows gradient descent, and the target was trained by {optimizer}, whose steps it does not"
            " know; koh, ekfac and trak need its final weights alone"
        )


def pulls(workspace: Workspace, epoch: int) -> Tensor:
    """Gradient at θ_t of each cluster's terms in the mean training loss, (K, weights)."""
    divided, target = workspace.divided, workspace.trained
    means = cluster_gradients(target.at(epoch), target.trajectory[epoch], divided, workspace.budget)
    shares = divided.partition.sizes / len(divided.data)
    return flat(means) * shares.to(divided.data.images.dtype)[:, None]


def effects_of(workspace: Workspace, queries: Queries, objective: Objective, moves: Tensor) -> Tensor:
    """∇f · move of each query and cluster.

    Args:
        workspace: of the run.
        queries: N of them.
        objective: with m behaviours and a gradient.
        moves: of the weights without each cluster, (K, weights).
    Returns:
        float64 (N, K, m); N = 1 for a set-level objective.
    """
    return gathered(
        objective,
        (
            torch.cat([rise.double() @ moves.double().T for rise in asked])
            for asked in query_gradients(workspace, queries, objective)
        ),
    )


def query_gradients(workspace: Workspace, queries: Queries, objective: Objective) -> Iterator[Iterator[Tensor]]:
    """∇f of the queries at the target, for each behaviour in chunks (n, weights)."""
    reference, network = workspace.reference(queries), workspace.network
    for slope in slopes(objective, reference.target_logits, reference):
        yield gradients(behaviour_of(network), network, workspace.target, queries.images, slope, workspace.budget)
