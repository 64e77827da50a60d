"""The parts of the distilled datamodel by themselves: a step without distillation, and an anchor without a step."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import DDMError
from ddm_framework.network import Gradient, broadcast, norms, unit
from ddm_framework.offline import cluster_gradients
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


def gradient(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    at: Literal["target", "trajectory"] = "target",
    step_size: Annotated[float, Field(gt=0)] | None = None,
) -> Tensor:
    """Effect of a step up the loss of each real cluster: what `ddm` estimates without matching a synset.

    All steps have one length, as those of `ddm` with `online.scale: common`. What `ddm` adds to this control is that it
    needs no training data for a question, and stores an image instead of a gradient as large as the network.

    Args:
        queries: N of them.
        objective: with m behaviours.
        at: where the gradient is taken: at θ_τ, or as the mean over the saved epochs of the trajectory.
        step_size: length of the step as a share of ‖θ_τ‖; by default the recipe's `online.step_size`.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if neither gives a step.
    Source: the control for Alg. 1 and Eq. 9.
    """
    share = workspace.recipe.online.step_size if step_size is None else step_size
    if share == 0:
        raise DDMError("the recipe's online.step_size is 0, so no network would move; give gradient a step_size")
    workspace.charge("partition")
    target = workspace.target
    length = share * norms(broadcast(target, 1))
    with workspace.offline_work():
        rise = unit(_gradients(workspace, [target] if at == "target" else list(workspace.trajectory.values())))
    count, collected = workspace.partition.num_clusters, []
    for rows in workspace.budget.chunks(workspace.network, count):
        stack = {name: target[name] + length * each[rows] for name, each in rise.items()}
        collected.append(workspace.stack_logits(stack, queries.images))
    return objective.effect_on(torch.cat(collected), workspace.reference(queries))


def _gradients(workspace: Workspace, checkpoints: list[Gradient]) -> Gradient:
    """Sum over networks of the gradient of each cluster's mean loss, stacked."""
    total: Gradient = {}
    for parameters in checkpoints:
        found = cluster_gradients(workspace.network, parameters, workspace.divided, workspace.budget)
        total = {name: each + total[name] if total else each for name, each in found.items()}
    return total


def retained(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    passes: Annotated[float, Field(gt=0)] = 3.0,
) -> Tensor:
    """Effect of a short training on the data that remain without each cluster: `ddm_anchored` without its step.

    What `ddm_anchored` is better than this control, it owes to the synset; the rest, to plain fine-tuning.

    Args:
        queries: N of them.
        objective: with m behaviours.
        passes: over the training images; 0.3 is one pass over three tenths of them.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Source: the control for `online.anchor`.
    """
    workspace.charge("partition")
    anchored = workspace.with_online(start="target", replay=0, anchor=passes, step_size=0.0, steps=1)
    return anchored.attribution(queries, objective).effect
