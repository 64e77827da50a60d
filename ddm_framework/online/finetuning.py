"""Estimate networks without some clusters by a few small steps on the synset (Eq. 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddm_framework.data.splits import ImageSet
from ddm_framework.network.memory import FINE_TUNING, Budget
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Gradient, Parameters, broadcast, norms, scaled, take, unit
from ddm_framework.network.target import Target
from ddm_framework.network.training import start, train
from ddm_framework.offline.synset import Synset, paired_gradients, synset_gradients
from ddm_framework.online.displacements import Displacements
from ddm_framework.recipe.settings import Online, Training

LEAST_ROWS = 8
"""Rows of a matrix product from which on a row no longer depends on their number."""
CLUSTERS_IN_A_PRODUCT, VALUES_IN_A_PRODUCT = 32, 2**24
"""Clusters whose gradients are summed by one matrix product, and the largest number of their values (64 MiB)."""


_Gradients = Callable[[tuple[int, int], Tensor], Gradient]
"""From the block of clusters from one number to another, and which of the block are wanted, to their gradients."""


def finetune(
    target: Target,
    synset: Synset,
    perturbations: Tensor,
    online: Online,
    direction: Literal["reverse", "forward"],
    budget: Budget,
    *,
    displacements: Displacements | None = None,
) -> Parameters:
    """Fine-tune one chunk of networks from θ_τ, each on the synset of its deleted clusters.

    With T steps each step moves a network by (1/T) Σ_{κ deleted} η_κ ∇L(θ, S_κ) / ||∇L(θ, S_κ)||, downhill for a
    reverse synset and uphill for an ordinary one. η_κ is step_size ||θ_τ||, either common to all clusters (`common`)
    or scaled by the norm of the cluster's summed training gradient, with the same mean (`cluster_share`). With `raw`,
    gradients keep their length and step_size is the plain learning rate of each of the T steps. The displacements of
    `online.direction` are the same wherever they are taken, so T of their steps are one.

    Args:
        target: where the networks start, at θ_τ.
        synset: of all K clusters.
        perturbations: (P, K); 0 = deleted.
        online: steps, their size and scale.
        direction: in which the synset was matched.
        budget: bounds the gradients that are computed at a time.
        displacements: of the clusters, from real data, in place of the synset's gradients.
    Returns:
        P networks, stacked; without deletions a network is the target itself.
    Source: Eq. 9; Eq. 2.
    """
    network, final = target.network, target.final
    lengths = (1 - perturbations.to(synset.images.device)) * step_lengths(final, synset, online)
    block = max(1, min(CLUSTERS_IN_A_PRODUCT, VALUES_IN_A_PRODUCT // network.num_weights))
    if displacements is not None:
        uphill = displacements
        return _moved(final, -online.steps * lengths, block, lambda at, _: _sized(uphill.block(*at), online.scale))
    moves = lengths if direction == "reverse" else -lengths
    size = budget.fitting(network, FINE_TUNING, synset.images.shape[1])
    stack = _moved(final, moves, block, _of_synset(network, final, synset, online.scale, size))
    lacking = moves.nonzero(as_tuple=True)
    for _ in range(online.steps - 1):
        stack = _next_step(network, stack, synset, moves, lacking, online.scale, size)
    return stack


def step_lengths(target: Parameters, synset: Synset, online: Online) -> Tensor:
    """η_κ / T (K,): the length of each step for each deleted cluster; for `raw`, the plain learning rate."""
    if online.scale == "raw":
        return synset.images.new_full((len(synset),), online.step_size)
    length = online.step_size * norms(broadcast(target, 1)) / online.steps
    if online.scale == "common":
        return length.expand(len(synset))
    return length * synset.real_norm / synset.real_norm.mean()


def _moved(target: Parameters, moves: Tensor, block: int, gradients: _Gradients) -> Parameters:
    """All networks are still the target, so the gradient of each cluster is needed only once for all rows.

    Args:
        target: where all start.
        moves: lengths against each gradient, (P, K).
        block: clusters that are worked on at a time.
        gradients: of each block.
    """
    stack, count = broadcast(target, len(moves)), moves.shape[1]
    used = (moves != 0).any(0).cpu()  # here once: the device would be waited for at every block
    # A matrix product rounds by the number of its rows, if they are few, and of its terms. Both are therefore fixed.
    rows = F.pad(moves, (0, 0, 0, max(0, LEAST_ROWS - len(moves))))
    for low in range(0, count, block):
        high = min(low + block, count)
        wanted = used[low:high].nonzero()[:, 0]
        if not len(wanted):
            continue
        for name, each in gradients((low, high), wanted.to(moves.device)).items():
            stack[name] -= torch.tensordot(rows[:, low:high], each, dims=1)[: len(moves)]
    return stack


def _of_synset(network: Network, target: Parameters, synset: Synset, scale: str, size: int) -> _Gradients:
    """Gradients of the synset at the target; those that are not wanted stay zero."""

    def gradients(at: tuple[int, int], wanted: Tensor) -> Gradient:
        low, high = at
        found = {name: each.new_zeros(high - low, *each.shape) for name, each in target.items()}
        for part in wanted.split(size):
            images, labels = synset.images[low + part], synset.labels[low + part]
            for name, each in _sized(synset_gradients(network, target, images, labels), scale).items():
                found[name][part] = each
        return found

    return gradients


def _next_step(
    network: Network,
    stack: Parameters,
    synset: Synset,
    moves: Tensor,
    lacking: tuple[Tensor, ...],
    scale: str,
    size: int,
) -> Parameters:
    """The networks now differ, so each needs a gradient of its own for each cluster that it lacks."""
    moved = {name: each.clone() for name, each in stack.items()}
    rows, clusters = lacking
    if not len(rows):
        return stack
    for row, cluster in zip(rows.split(size), clusters.split(size), strict=True):
        gradient = paired_gradients(network, take(stack, row), synset.images[cluster], synset.labels[cluster])
        _move(moved, row, _sized(gradient, scale), moves[row, cluster])
    return moved


def _move(stack: Parameters, rows: Tensor, gradient: Gradient, lengths: Tensor) -> None:
    """Add gradients (R, ...) times minus their lengths (R,) to the networks `rows` (R,) of a stack, in place."""
    # index_add_, because `rows` may hold a network once for each cluster that it lacks.
    for name, each in scaled(gradient, -lengths).items():
        stack[name].index_add_(0, rows, each)


def _sized(gradient: Gradient, scale: str) -> Gradient:
    """Gradients of length one, or as they are for `raw`."""
    return gradient if scale == "raw" else unit(gradient)


def retrain_on_synset(
    target: Target, synset: Synset, perturbations: Tensor, online: Online, training: Training, seed: int
) -> Parameters:
    """Train one chunk of networks from θ_0, each on the synset of its kept clusters (Eq. 13, Table 4).

    Every step is one pass over the whole synset, with the target's learning rate; a deleted cluster's term is left out.
    """
    count = synset.images.shape[1]
    settings = training.model_copy(
        update={"epochs": online.steps, "batch_size": len(synset) * count, "schedule": "constant"}
    )
    weights = perturbations.to(synset.images.device).repeat_interleave(count, 1)
    data, begun = (
        ImageSet(synset.images.flatten(0, 1), synset.labels.flatten(0, 1)),
        start(target.initial, len(weights)),
    )
    *_, last = train(target.network, begun, data, weights, settings, seed)
    return last.parameters


@dataclass(frozen=True, slots=True)
class Anchor:
    """Training images on which estimated networks are trained while they take their step.

    Attributes:
        data: N images.
        clusters: of each image, int64 (N,).
        epochs: number of passes over the images.
    """

    data: ImageSet
    clusters: Tensor
    epochs: int


def anchored(
    target: Target, stack: Parameters, perturbations: Tensor, anchor: Anchor, training: Training, seed: int
) -> Parameters:
    """Repeat the step from θ_τ to each of P networks during a training on the images of its kept clusters.

    The effect of the same training on θ_τ with all images and without a step is subtracted, so that a network without
    deletions stays the target.

    Args:
        target: whose θ_τ the networks left.
        stack: P networks, as fine-tuning alone reaches them.
        perturbations: (P, K); 0 = deleted.
        anchor: N training images.
        training: settings of the training; its schedule starts from the beginning.
        seed: of the batch order.
    Returns:
        P networks, stacked.
    Raises:
        DivergenceError: if a weight becomes NaN or infinite.
    """
    final, clusters = target.final, anchor.clusters
    kept = torch.cat([perturbations, torch.ones(1, perturbations.shape[1])]).to(clusters.device)
    way = {name: each - final[name] for name, each in stack.items()}
    push = {name: torch.cat([each, torch.zeros_like(each[:1])]) / anchor.epochs for name, each in way.items()}
    settings = training.model_copy(update={"epochs": anchor.epochs})
    begun = start(final, len(kept))
    *_, last = train(target.network, begun, anchor.data, kept[:, clusters], settings, seed, push=push)
    return {name: final[name] + each[:-1] - each[-1:] for name, each in last.parameters.items()}
