"""Mean gradient of the loss on each real cluster, ∇L(θ_t, D_κ), many clusters at a time (Alg. 1 l.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddm_framework.network.memory import BLOCK_GRADIENT, Budget, halved
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Gradient, Parameters, broadcast
from ddm_framework.network.target import Target
from ddm_framework.offline.pairing import Pair
from ddm_framework.offline.partition import Divided, Partition

BLOCK = 16
"""Samples in a block. Clusters are split into blocks, so that the others need not be padded to the largest one."""


def cluster_gradients(network: Network, parameters: Parameters, divided: Divided, budget: Budget) -> Gradient:
    """Gradients of the mean loss of each cluster, stacked.

    Args:
        network: the architecture.
        parameters: θ_t, of one network.
        divided: the samples and their K clusters.
        budget: bounds the blocks that are worked on at a time.
    Returns:
        One gradient per cluster, with a leading dimension K.
    """
    clusters, num_clusters = divided.partition.clusters, divided.partition.num_clusters
    images, labels = divided.data.images, divided.data.labels
    index, present, owners = _blocks(clusters, num_clusters)
    shares = present.to(images.dtype) / clusters.bincount(minlength=num_clusters)[owners, None]
    total = {name: each.new_zeros(num_clusters, *each.shape) for name, each in parameters.items()}
    if network.is_large:
        return _one_by_one(network, parameters, divided, total)
    size = budget.fitting(network, BLOCK_GRADIENT, BLOCK)
    for low in range(0, len(index), size):
        part = slice(low, low + size)

        def some(within: slice, part: slice = part) -> Gradient:
            rows = index[part][within]
            stack = broadcast(parameters, len(rows))
            return network.gradients(stack, images[rows], labels[rows], shares[part][within])

        for within, block in halved(len(index[part]), some, "blocks of images"):
            for name, each in block.items():
                total[name].index_add_(0, owners[part][within], each)
    return total


def _one_by_one(network: Network, parameters: Parameters, divided: Divided, total: Gradient) -> Gradient:
    """The same for a large network, whose blocks would go one at a time: a cluster after the other, nothing padded."""
    data, partition = divided.data, divided.partition
    for cluster in range(partition.num_clusters):
        members = partition.members(cluster)
        for part in members.split(BLOCK):
            labels = data.labels[part]
            shares = torch.full((len(part),), 1 / len(members), dtype=data.images.dtype, device=labels.device)
            for name, each in network.gradient(parameters, data.images[part], labels, shares).items():
                total[name][cluster] += each
    return total


def _blocks(clusters: Tensor, num_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """For M blocks: positions of their samples (M, BLOCK), which are not padding (M, BLOCK), and their cluster (M,)."""
    order = clusters.argsort(stable=True)
    sizes = clusters.bincount(minlength=num_clusters)
    blocks_each = (sizes + BLOCK - 1) // BLOCK
    owners = torch.arange(num_clusters, device=clusters.device).repeat_interleave(blocks_each)
    nth = torch.arange(len(owners), device=clusters.device) - (blocks_each.cumsum(0) - blocks_each)[owners]
    within = nth[:, None] * BLOCK + torch.arange(BLOCK, device=clusters.device)
    present = within < sizes[owners, None]
    first = (sizes.cumsum(0) - sizes)[owners, None]
    # Padding repeats the first sample of the same cluster: NaN times 0 is NaN, so NaN of another cluster would spread.
    return order[first + within * present], present, owners


def trajectory_gradients(
    target: Target, divided: Divided, clusters: slice, pairs: Sequence[Pair], budget: Budget
) -> dict[int, Gradient]:
    """∇L(θ_t, D_κ) of some clusters, stacked, by the epoch t of the real gradient of each pair (Alg. 1 l.7)."""
    part, epochs = divided.only(clusters), sorted({real for real, _ in pairs})
    return {epoch: cluster_gradients(target.at(epoch), target.trajectory[epoch], part, budget) for epoch in epochs}


def class_gradients(real: Mapping[int, Gradient], partition: Partition, num_classes: int) -> dict[int, Gradient]:
    """Gradients of the mean loss of each class: the mean over its clusters, weighted by their sizes."""
    clusters = torch.arange(partition.num_clusters, device=partition.classes.device)
    sizes = partition.sizes
    totals = sizes.new_zeros(num_classes).index_add(0, partition.classes, sizes)
    merged = {}
    for epoch, gradient in real.items():
        first = next(iter(gradient.values()))
        share = first.new_zeros(num_classes, partition.num_clusters)
        share[partition.classes, clusters] = sizes.to(first.dtype) / totals[partition.classes]
        merged[epoch] = {name: torch.tensordot(share, each, dims=1) for name, each in gradient.items()}
    return merged
