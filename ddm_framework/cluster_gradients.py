"""Mean gradient of the loss on each real cluster, ∇L(θ_t, D_κ), many clusters at a time (Alg. 1 l.7)."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.images import Images
from ddm_framework.networks import Gradient, Network, Parameters, broadcast, chunk_size, num_weights

BLOCK = 16
"""Samples in a block. Clusters of any size are cut into blocks, so that one large cluster pads no other."""


def cluster_gradients(
    network: Network,
    parameters: Parameters,
    images: Images,
    labels: Tensor,
    clusters: Tensor,
    num_clusters: int,
    memory_mb: int,
) -> Gradient:
    """Gradients of the mean loss of each cluster, stacked.

    Args:
        network: the architecture.
        parameters: θ_t, of one network.
        images, labels: the samples (N, C, H, W) and (N,).
        clusters: which cluster each sample is in, int64 (N,), 0 to num_clusters - 1.
        num_clusters: how many.
        memory_mb: bounds the blocks that are worked on at a time.
    Returns:
        One gradient a cluster, with a leading dimension num_clusters.
    """
    index, present, owners = _blocks(clusters, num_clusters)
    shares = present.to(images.dtype) / clusters.bincount(minlength=num_clusters)[owners, None]
    total = {name: each.new_zeros(num_clusters, *each.shape) for name, each in parameters.items()}
    size = chunk_size(memory_mb, 3 * BLOCK * network.activation_values + 2 * num_weights(parameters), most=512 // BLOCK)
    for low in range(0, len(index), size):
        part = slice(low, low + size)
        stack = broadcast(parameters, len(shares[part]))
        block = network.gradients(stack, images[index[part]], labels[index[part]], shares[part])
        for name, each in block.items():
            total[name].index_add_(0, owners[part], each)
    return total


def _blocks(clusters: Tensor, num_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (M, BLOCK) of the samples in each block, whether a place is taken (M, BLOCK), and its cluster (M,)."""
    order = clusters.argsort(stable=True)
    sizes = clusters.bincount(minlength=num_clusters)
    blocks_each = (sizes + BLOCK - 1) // BLOCK
    owners = torch.arange(num_clusters, device=clusters.device).repeat_interleave(blocks_each)
    nth = torch.arange(len(owners), device=clusters.device) - (blocks_each.cumsum(0) - blocks_each)[owners]
    within = nth[:, None] * BLOCK + torch.arange(BLOCK, device=clusters.device)
    present = within < sizes[owners, None]
    first = (sizes.cumsum(0) - sizes)[owners, None]
    # An empty place repeats the cluster's own first sample: another's could spoil it, for NaN times 0 is NaN.
    return order[first + within * present], present, owners
