"""TracIn: how the descent steps on each cluster affect a query, summed over checkpoints of the training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ddm_attributors.captum_examples import (
    GroupCrossEntropy,
    GroupSlope,
    cluster_examples,
    grouped_network,
    query_examples,
)
from ddm_attributors.isolation import undisturbed
from ddm_attributors.libraries import needed
from ddm_attributors.slopes import gathered, slopes
from ddm_framework import attributor
from ddm_framework.network import learning_rate, num_weights
from ddm_framework.online import Objective, Queries
from ddm_framework.recipe import Training
from ddm_framework.runs import Workspace

_COPIES = 4
"""Gradients that captum holds in memory for each that it returns."""


@attributor(linear=True, logits=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    checkpoints: Annotated[int, Field(ge=1, le=1_000_000)] = 30,
) -> Tensor:
    """Effect of deleting each cluster: the sum over checkpoints of lr ∇f(θ_t)·Σ∇L(θ_t), by captum's TracInCP.

    A checkpoint stands for all epochs since the previous one, and the step of a sample is its gradient divided by the
    batch size, so that effects have the unit of the objective.

    Args:
        workspace: of the run whose trajectory is used.
        queries: N of them.
        objective: with m behaviours and a gradient.
        checkpoints: number of saved ones to use, evenly spaced and including θ_τ; all if there are fewer.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if captum is not installed, or the objective has no gradient.
    Source: Pruthi et al. 2020, Estimating Training Data Influence by Tracing Gradient Descent, Sec. 3.2 (TracInCP).
    """
    captum = needed("captum.influence", "tracin")
    clusters, owners = cluster_examples(workspace.data.train, workspace.partition)
    shape = (_num_behaviours(workspace, queries, objective), len(queries), workspace.partition.num_clusters)
    effect = torch.zeros(shape, dtype=torch.float64, device=workspace.device)
    with undisturbed(workspace.device):
        for epoch, rate in _steps(list(workspace.trajectory), checkpoints, workspace.recipe.training):
            network = grouped_network(workspace, workspace.trajectory[epoch], epoch)
            with workspace.offline_work():
                steps = _gradients(captum, network, clusters, GroupCrossEntropy(), rate)
            for behaviour, rows, examples in _asked(workspace, queries, objective, network.network):
                scores = _gradients(captum, network, examples, GroupSlope()) @ steps.T
                effect[behaviour, rows].index_add_(1, owners, scores.double())
    return gathered(objective, effect)


def _gradients(captum: Any, network: nn.Module, examples: DataLoader[Any], loss: nn.Module, rate: float = 1) -> Tensor:
    """Gradient of each example times the learning rate, (E, weights)."""
    tracin = captum.TracInCP(
        network, examples, checkpoints=[rate], checkpoints_load_func=lambda _, rate: rate, loss_fn=loss
    )
    gradients: Tensor = tracin.compute_intermediate_quantities(examples)
    return gradients


def _num_behaviours(workspace: Workspace, queries: Queries, objective: Objective) -> int:
    reference = workspace.reference(queries)
    return objective.measure(reference.target_logits, reference).shape[1]


def _asked(
    workspace: Workspace, queries: Queries, objective: Objective, network: nn.Module
) -> Iterator[tuple[int, slice, DataLoader[Any]]]:
    """For each behaviour, batches of queries whose gradients fit into memory, as examples for this network."""
    with torch.no_grad():
        logits = torch.cat([network(batch) for batch in queries.images.split(128)])
    directions = slopes(objective, logits, workspace.reference(queries))
    size = workspace.budget.items(_COPIES * num_weights(workspace.target), most=len(queries))
    for behaviour, slope in enumerate(directions):
        for low in range(0, len(queries), size):
            rows = slice(low, low + size)
            yield behaviour, rows, query_examples(queries.images[rows], slope[rows])


def _steps(saved: list[int], count: int, training: Training) -> Iterator[tuple[int, float]]:
    """Evenly spaced epochs after θ_0, each with the summed learning rates of one sample since the previous one."""
    later = sorted(epoch for epoch in saved if epoch > 0)
    count = min(count, len(later))
    before = 0
    for index in range(1, count + 1):
        epoch = later[round(index * len(later) / count) - 1]
        rates = sum(learning_rate(training, past) for past in range(before, epoch))
        # Momentum applies each gradient again in later steps, by 1 / (1 - momentum) in total.
        yield epoch, rates / (training.batch_size * (1 - training.momentum))
        before = epoch
