"""Where the step without a cluster leads, found from the real data instead of the synset (`online.direction`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from torch import Tensor

from ddm_framework.network.curvature import DampedInverse, curvature_rows
from ddm_framework.network.memory import Budget
from ddm_framework.network.stacks import Gradient, Parameters, flat
from ddm_framework.network.target import Target
from ddm_framework.offline.partition import Divided
from ddm_framework.offline.real_gradients import cluster_gradients
from ddm_framework.randomness import generator
from ddm_framework.recipe.recipe import Recipe

MOST_ROWS = 2048
"""Rows of the curvature; of two classes' probabilities a thousand images, of many classes' the most uncertain ones."""


class Displacements:
    """The direction in which a network moves without each cluster, from the real gradients of its training.

    `gradient` is Σ_s w_s ∇L(θ_s, D_κ) over the saved checkpoints before the step, each weighted by the learning rates
    until the next: gradient descent moved the network by its reverse. `influence` is (G + damping)⁻¹ of it, with G the
    Gauss-Newton matrix of the training loss where the step is taken: what the training afterwards makes of the
    displacement. G is drawn from at most `MOST_ROWS` gradients of single images, fewer where they would not fit.

    Source: Eq. 2; Koh and Liang 2017.
    """

    def __init__(
        self, target: Target, epoch: int, rates: Mapping[int, float], divided: Divided, recipe: Recipe
    ) -> None:
        """Compute nothing yet.

        Args:
            target: the network and its trajectory.
            epoch: t of the checkpoint at which the step is taken.
            rates: w_s by saved epoch s; at least one.
            divided: the training split and its K clusters.
            recipe: the direction and its damping (`online`), the memory and the seed.
        """
        self._target, self._epoch, self._rates = target, epoch, rates
        self._divided, self._online, self._seed = divided, recipe.online, recipe.general.seed
        self._budget = Budget(recipe.general.chunk_mb)
        self._known: dict[int, Gradient] = {}

    def block(self, low: int, high: int) -> Gradient:
        """Uphill directions of the clusters from `low` to `high`, stacked, of any length."""
        if low in self._known:
            return self._known[low]
        part, total = self._divided.only(slice(low, high)), dict[str, Tensor]()
        for epoch, rate in self._rates.items():
            found = cluster_gradients(self._target.at(epoch), self._target.trajectory[epoch], part, self._budget)
            total = {name: rate * each + total.get(name, 0) for name, each in found.items()}
        if self._online.direction == "influence":
            total = _like(self._target.trajectory[self._epoch], self._inverse(flat(total)))
        if self._divided.partition.num_clusters * self._target.network.num_weights <= self._budget.memory_mb * 2**17:
            self._known[low] = total  # half of the memory at most; otherwise each chunk of networks asks anew
        return total

    @cached_property
    def _inverse(self) -> DampedInverse:
        target, draws = self._target, generator(self._seed, "curvature")
        count = self._budget.items(2 * target.network.num_weights, most=MOST_ROWS)
        images = self._divided.data.images
        rows = curvature_rows(
            target.at(self._epoch), target.trajectory[self._epoch], images, count, self._budget, draws
        )
        return DampedInverse(rows, self._online.damping)


def _like(parameters: Parameters, vectors: Tensor) -> Gradient:
    """The rows of (V, weights) in the shapes of a network's parameters, stacked."""
    parts = vectors.split([each.numel() for each in parameters.values()], 1)
    return {name: part.view(-1, *each.shape) for part, (name, each) in zip(parts, parameters.items(), strict=True)}
