"""The exact derivative of the trained weights by each cluster's presence: the ceiling of linear methods."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.func import grad, vmap

from ddm_attributors.moves import effects_of, need_training
from ddm_framework import attributor
from ddm_framework.network import SECOND_ORDER, Network, Parameters, TrainingState, flat, take, train
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace


@attributor(linear=True, logits=True)
def attribute(workspace: Workspace, queries: Queries, objective: Objective, /) -> Tensor:
    """Effect of deleting each cluster, by the tangent of the whole training in the direction of its samples' weights.

    Every step of gradient descent is differentiated, in the target's own batches, so nothing is approximated but that a
    deletion is a small change. What is left to gain beyond it, no first-order method can gain.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if the target was trained elsewhere, or the objective has no gradient.
    Source: Hara et al. 2019, Data Cleansing for Models Trained with SGD, Sec. 3, without its approximations.
    """
    need_training(workspace, "linearised")
    moves = workspace.made_once("linearised", lambda: tangents(workspace))
    return effects_of(workspace, queries, objective, moves)


def tangents(workspace: Workspace) -> Tensor:
    """−dθ_τ / dp_κ for the weight p_κ of each cluster's samples, (K, weights)."""
    recipe, data, clusters = workspace.recipe, workspace.data.train, workspace.partition.clusters
    network, count = workspace.network, workspace.partition.num_clusters
    # Descent is linear in the gradient, so it moves tangents as it moves weights; it asks for gradients alone.
    tangent = cast(Network, _Tangent(network))
    found = []
    for rows in workspace.budget.chunks(network, count, SECOND_ORDER, recipe.training.batch_size):
        without = torch.nn.functional.one_hot(clusters, count)[:, rows].T
        weights = torch.cat([torch.ones_like(without[:1]), -without])
        still = {name: torch.zeros_like(each) for name, each in workspace.initial.items()}
        begun = TrainingState(0, _dual(workspace.initial, len(without)), _dual(still, len(without)))
        *_, last = train(tangent, begun, data, weights, recipe.training, recipe.general.seed)
        found.append(flat(take(last.parameters, slice(1, None))))
    return torch.cat(found)


def _dual(parameters: Parameters, count: int) -> Parameters:
    """A network, and after it `count` tangents, which are zero."""
    return {name: torch.stack([each, *[torch.zeros_like(each)] * count]) for name, each in parameters.items()}


class _Tangent:
    """A network whose stacks are one network and tangents of it, which a step of descent moves as it moves weights."""

    def __init__(self, network: Network) -> None:
        self._network, self.info = network, network.info

    def gradients(self, stack: Parameters, images: Tensor, labels: Tensor, weights: Tensor) -> Parameters:
        """The gradient, and its derivative along each tangent and each change of the samples' weights."""
        parameters = take(stack, 0)

        def loss(at: Parameters, shares: Tensor) -> Tensor:
            return (self._network.loss(at, images, labels) * shares).sum()

        def along(tangent: Parameters, change: Tensor) -> Parameters:
            def derivative(at: Parameters) -> Tensor:
                slope = grad(loss)(at, weights[0])
                return torch.stack([(slope[name] * tangent[name]).sum() for name in slope]).sum() + loss(at, change)

            found: Parameters = grad(derivative)(parameters)
            return found

        own = grad(loss)(parameters, weights[0])
        moved = vmap(along)(take(stack, slice(1, None)), weights[1:])
        return {name: torch.cat([own[name][None], moved[name]]) for name in own}
