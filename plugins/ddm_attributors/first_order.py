"""Influence from gradients at the target alone, without a matrix or with its cheapest inverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ddm_attributors.gradients import gradients, loss_of
from ddm_attributors.moves import effects_of, pulls, query_gradients
from ddm_attributors.slopes import gathered
from ddm_framework import attributor
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


@attributor(linear=True, logits=True)
def graddot(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Effect of deleting each cluster: ∇f·Σ∇L / n at the target, as if the curvature were the identity.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
    Returns:
        float64 (N, K, m), without a unit; N = 1 for a set-level objective.
    Source: Charpiat et al. 2019, Input Similarity from the Neural Network Perspective.
    """
    with workspace.offline_work():
        moves = pulls(workspace, max(workspace.trajectory))
    return effects_of(workspace, queries, objective, moves)


@attributor(linear=True)
def gradcos(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Cosine of ∇f with each cluster's gradient at the target, so that no cluster leads by the size of its gradient.

    Args, Returns: as `graddot`.
    Source: Charpiat et al. 2019.
    """
    with workspace.offline_work():
        moves = torch.nn.functional.normalize(pulls(workspace, max(workspace.trajectory)).double(), dim=1)
    asked = query_gradients(workspace, queries, objective)
    unit = (
        torch.cat([torch.nn.functional.normalize(rise.double(), dim=1) @ moves.T for rise in each]) for each in asked
    )
    return gathered(objective, unit)


@attributor(linear=True, logits=True)
def datainf(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    damping: Annotated[float, Field(gt=0)] = 0.1,
) -> Tensor:
    """Influence with the mean of the inverses of single samples' matrices in place of the inverse of their mean.

    For each layer, (1/n) Σ_i (∇ℓ_i ∇ℓ_iᵀ + λ)⁻¹ Σ∇L / n, each inverse in closed form; λ is `damping` times the mean
    squared gradient of the layer's weights.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
        damping: λ, as a share.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Source: Kwon et al. 2024, DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and Diffusion Models.
    """
    with workspace.offline_work():
        moves = _mean_inverse(workspace, pulls(workspace, max(workspace.trajectory)), damping)
    return effects_of(workspace, queries, objective, moves)


def _mean_inverse(workspace: Workspace, vectors: Tensor, damping: float) -> Tensor:
    """(1/n) Σ_i (g_i g_iᵀ + λ_l)⁻¹ v of each vector (V, weights), layer by layer, by Sherman and Morrison."""
    sizes = [each.numel() for each in workspace.target.values()]
    parts, count = vectors.split(sizes, 1), len(workspace.data.train)
    squares = torch.zeros(len(sizes), dtype=torch.float64, device=vectors.device)
    for layers in _by_layer(workspace, sizes):
        squares += torch.stack([each.double().square().sum() for each in layers])
    per_weight = squares / count / torch.tensor(sizes, device=vectors.device)
    floors = (damping * per_weight).clamp(min=torch.finfo(torch.float32).tiny).to(vectors.dtype)
    removed = [torch.zeros_like(each) for each in parts]
    for layers in _by_layer(workspace, sizes):
        for layer, rows, vector, floor in zip(removed, layers, parts, floors, strict=True):
            shares = (vector @ rows.T) / (floor + rows.square().sum(1))
            layer += shares @ rows / count
    return torch.cat([(vector - less) / floor for vector, less, floor in zip(parts, removed, floors, strict=True)], 1)


def _by_layer(workspace: Workspace, sizes: Sequence[int]) -> Iterator[Sequence[Tensor]]:
    """Gradients of single training samples, in chunks, each split into its parameters."""
    train, network = workspace.data.train, workspace.network
    for rows in gradients(loss_of(network), network, workspace.target, train.images, train.labels, workspace.budget):
        yield rows.split(sizes, 1)
