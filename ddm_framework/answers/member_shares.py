"""What is each member's part in the effect of its cluster? Rough shares, by gradients along the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ddm_framework.answers.deletion import Without, without
from ddm_framework.answers.sample_influence import products, sample_gradients
from ddm_framework.errors import DDMError
from ddm_framework.network import Gradient
from ddm_framework.online import Queries
from ddm_framework.online.amounts import log_odds
from ddm_framework.runs import Workspace
from ddm_framework.runs.real_training import rates_between
from ddm_framework.runs.samples import Member, Sample, members_of

CHECKPOINTS = 10
"""Checkpoints at which gradients of members are taken, evenly spaced; all that were saved if they are fewer."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What is known roughly of the n members of one cluster.

    Attributes:
        members: their positions in the training split, int64 (n,), ascending.
        along: Σ_s w_s ⟨∇ℓ(θ_s, x_i), d⟩ of each, float64 (n,), with d the way that leaving out the cluster goes. It is
            above 0 where leaving out this member alone goes the same way.
    """

    members: Tensor
    along: Tensor

    @property
    def share(self) -> Tensor | None:
        """Of the cluster's effect, float64 (n,), summing to 1; below 0 where a member pulled the other way.

        None if the members' gradients together do not point along d: then they explain nothing.
        """
        total = self.along.sum()
        return self.along / total if bool(total > 0) else None


def rough_shares(workspace: Workspace, cluster: int, query: Queries | None = None) -> Shares:
    """Compare the gradients of a cluster's members with the way in which the network without it goes.

    Gradient descent moved the network by -w_s ∇ℓ(θ_s, x_i) after each checkpoint, with w_s the learning rates until the
    next one; a training without the member lacks these steps. Their component along d is its part, to first order. It
    does not know that members stand in for one another, nor how later steps answer, so it is rough:
    `benchmarks/members.py` compares it with retraining without each member.

    Args:
        workspace: of a finished run.
        cluster: its id.
        query: one, for the part in the effect on its prediction: d is then the gradient of the log odds of what the
            network says, in the direction in which they change without the cluster. By default d is the way from θ_τ to
            the network without the cluster, whatever is asked of it.
    Raises:
        DDMError: if there is no such cluster, the training data are gone, or there are several queries.
    """
    count = workspace.partition.num_clusters
    if not 0 <= cluster < count:
        raise DDMError(f"there is no cluster {cluster}; clusters are 0 to {count - 1}")
    if query is not None and len(query) != 1:
        raise DDMError(f"rough shares are of the effect on one query, found {len(query)}")
    members, found = workspace.partition.members(cluster), without(workspace, [cluster])
    if query is None:
        way = {name: (each - workspace.target[name])[None] for name, each in found.parameters.items()}
    else:
        way = _uphill(workspace, query, found)
    along = torch.zeros(len(members), dtype=torch.float64)
    for epoch, rate in _weights(workspace).items():
        for rows, gradient in sample_gradients(workspace, epoch, members):
            along[rows] += rate * products(gradient, way)
    return Shares(members.cpu(), along)


def _weights(workspace: Workspace) -> dict[int, float]:
    """w_s of evenly spaced checkpoints s, as `online.direction: gradient` weights them."""
    saved, recipe = sorted(workspace.trajectory), workspace.recipe
    steps = min(CHECKPOINTS, len(saved) - 1)
    chosen = [saved[round(index * (len(saved) - 1) / steps)] for index in range(steps + 1)] if steps else saved
    return rates_between(recipe.training, chosen, trained_here=recipe.target.checkpoint is None)


def _uphill(workspace: Workspace, query: Queries, found: Without) -> Gradient:
    """Gradient at θ_τ of the log odds of what the network says, turned to where they go without the cluster."""
    before = workspace.target_logits(query.images)
    said = before.argmax(1)
    change = log_odds(found.logits(query.images), said) - log_odds(before, said)
    leaves = {name: each.detach().clone().requires_grad_() for name, each in workspace.target.items()}
    odds = log_odds(workspace.network(leaves, query.images), said).sum()
    slopes = torch.autograd.grad(odds, list(leaves.values()), materialize_grads=True)
    sign = change.sign().item()
    return {name: sign * each[None] for name, each in zip(leaves, slopes, strict=True)}


def members_with_shares(samples: Sequence[Sample], cluster: int, shares: Shares) -> list[Member]:
    """The training samples of a cluster with their rough shares, the largest first.

    Args:
        samples: of the run, in the order of `samples.csv`.
        cluster: its id.
        shares: of its members.
    """
    found, known = members_of(samples, cluster), shares.share
    if known is None:
        return [Member(**asdict(each)) for each in found]
    order = known.argsort(descending=True, stable=True).tolist()
    return [Member(**asdict(found[place]), rough_share=float(known[place])) for place in order]
