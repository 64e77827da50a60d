"""Estimate networks without some clusters by a few small steps on the synset (Eq. 9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.data.images import Images
from ddm_framework.network.memory import chunk_size, network_chunks
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, broadcast, norms, num_weights, scaled, take
from ddm_framework.network.training import start, train
from ddm_framework.offline.synset import Synset, paired_gradients, synset_gradients
from ddm_framework.recipe.settings import Matching, Online, Training


def finetune(
    network: Network,
    target: Parameters,
    synset: Synset,
    perturbations: Tensor,
    online: Online,
    matching: Matching,
    memory_mb: int,
) -> Parameters:
    """Fine-tune one chunk of networks from θ_τ, each on the synset of its deleted clusters.

    With T steps each step moves a network by (1/T) Σ_{κ deleted} η_κ ∇L(θ, S_κ) / ||∇L(θ, S_κ)||, downhill for a
    reverse synset and uphill for an ordinary one. η_κ is step_size ||θ_τ||, either common to all clusters (`common`)
    or scaled by the norm of the cluster's summed training gradient, with the same mean (`cluster_share`). With `raw`,
    gradients keep their length and step_size is the plain learning rate of each of the T steps.

    Args:
        target: θ_τ, one network.
        synset: of all K clusters.
        perturbations: (P, K); 0 = deleted.
    Returns:
        P networks, stacked; without deletions a network is the target itself.
    Source: Eq. 9; Eq. 2.
    """
    deleted = 1 - perturbations.to(synset.images.device)
    moves = deleted * step_lengths(target, synset, online)
    if matching.direction == "forward":
        moves = -moves
    stack = _first_step(network, target, synset, moves, online.scale, memory_mb)
    for _ in range(online.steps - 1):
        stack = _next_step(network, stack, synset, moves, online.scale, memory_mb)
    return stack


def step_lengths(target: Parameters, synset: Synset, online: Online) -> Tensor:
    """η_κ / T (K,): the length of each step for each deleted cluster; for `raw`, the plain learning rate."""
    if online.scale == "raw":
        return synset.images.new_full((len(synset),), online.step_size)
    length = online.step_size * norms(broadcast(target, 1)) / online.steps
    if online.scale == "common":
        return length.expand(len(synset))
    return length * synset.real_norm / synset.real_norm.mean()


def _first_step(
    network: Network, target: Parameters, synset: Synset, moves: Tensor, scale: str, memory_mb: int
) -> Parameters:
    """All networks are still the target, so the gradient of each cluster is needed only once for all rows."""
    stack = broadcast(target, len(moves))
    wanted = (moves != 0).any(0).nonzero()[:, 0]
    for part in wanted.split(_gradients_at_a_time(network, synset, memory_mb)) if len(wanted) else ():
        gradient = _sized(synset_gradients(network, target, synset.images[part], synset.labels[part]), scale)
        for name, each in gradient.items():
            stack[name] -= torch.tensordot(moves[:, part], each, dims=1)
    return stack


def _next_step(
    network: Network, stack: Parameters, synset: Synset, moves: Tensor, scale: str, memory_mb: int
) -> Parameters:
    """The networks now differ, so each needs a gradient of its own for each cluster that it lacks."""
    moved = {name: each.clone() for name, each in stack.items()}
    rows, clusters = moves.nonzero(as_tuple=True)
    size = _gradients_at_a_time(network, synset, memory_mb)
    for row, cluster in zip(rows.split(size), clusters.split(size), strict=True):
        gradient = paired_gradients(network, take(stack, row), synset.images[cluster], synset.labels[cluster])
        # index_add_, because `row` holds a network once for each cluster that it lacks.
        for name, each in scaled(_sized(gradient, scale), -moves[row, cluster]).items():
            moved[name].index_add_(0, row, each)
    return moved


def _sized(gradient: Parameters, scale: str) -> Parameters:
    """Gradients of length one, or as they are for `raw`."""
    return (
        gradient if scale == "raw" else scaled(gradient, 1 / norms(gradient).clamp_min(torch.finfo(torch.float32).tiny))
    )


def _gradients_at_a_time(network: Network, synset: Synset, memory_mb: int) -> int:
    weights = num_weights(dict(network.module.named_parameters()))
    return chunk_size(memory_mb, 3 * synset.images.shape[1] * network.activation_values + 4 * weights, most=256)


def retrain_on_synset(
    network: Network,
    initial: Parameters,
    synset: Synset,
    perturbations: Tensor,
    online: Online,
    training: Training,
    seed: int,
) -> Parameters:
    """Train one chunk of networks from θ_0, each on the synset of its kept clusters (Eq. 13, Table 4).

    Every step is one pass over the whole synset, with the target's learning rate; a deleted cluster's term is left out.
    """
    count = synset.images.shape[1]
    settings = training.model_copy(
        update={"epochs": online.steps, "batch_size": len(synset) * count, "schedule": "constant"}
    )
    weights = perturbations.to(synset.images.device).repeat_interleave(count, 1)
    images, labels = synset.images.flatten(0, 1), synset.labels.flatten(0, 1)
    *_, last = train(network, start(initial, len(perturbations)), images, labels, weights, settings, seed)
    return last.parameters


@dataclass(frozen=True, slots=True)
class Anchor:
    """Training images on which estimated networks are trained while they take their step.

    Attributes:
        images: (N, C, H, W).
        labels: int64 (N,).
        clusters: of each image, int64 (N,).
        epochs: number of passes over the images.
    """

    images: Images
    labels: Tensor
    clusters: Tensor
    epochs: int


def anchored(
    network: Network,
    target: Parameters,
    stack: Parameters,
    perturbations: Tensor,
    anchor: Anchor,
    training: Training,
    seed: int,
) -> Parameters:
    """Repeat the step from θ_τ to each of P networks during a training on the images of its kept clusters.

    The effect of the same training on θ_τ with all images and without a step is subtracted, so that a network without
    deletions stays the target.

    Args:
        network: the architecture.
        target: θ_τ, one network.
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
    kept = torch.cat([perturbations, torch.ones(1, perturbations.shape[1])]).to(anchor.labels.device)
    way = {name: each - target[name] for name, each in stack.items()}
    push = {name: torch.cat([each, torch.zeros_like(each[:1])]) / anchor.epochs for name, each in way.items()}
    settings = training.model_copy(update={"epochs": anchor.epochs})
    begun, present = start(target, len(kept)), kept[:, anchor.clusters]
    *_, last = train(network, begun, anchor.images, anchor.labels, present, settings, seed, push)
    return {name: target[name] + each[:-1] - each[-1:] for name, each in last.parameters.items()}


def perturbed_networks(
    network: Network,
    initial: Parameters,
    target: Parameters,
    synset: Synset,
    perturbations: Tensor,
    online: Online,
    matching: Matching,
    training: Training,
    seed: int,
    memory_mb: int,
    anchor: Anchor | None = None,
) -> Iterator[tuple[slice, Parameters]]:
    """Estimates of the networks trained on each perturbed data set (Eq. 9), a chunk of rows at a time."""
    for rows in network_chunks(network, len(perturbations), memory_mb):
        if online.start == "target":
            stack = finetune(network, target, synset, perturbations[rows], online, matching, memory_mb)
            if anchor is not None:
                stack = anchored(network, target, stack, perturbations[rows], anchor, training, seed)
        else:
            stack = retrain_on_synset(network, initial, synset, perturbations[rows], online, training, seed)
        yield rows, stack
