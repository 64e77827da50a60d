"""How many networks fit into memory at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from ddm_framework.network.networks import QUERY_BATCH, Network
from ddm_framework.network.stacks import num_weights


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices of nearly equal length, at most `size` long, and never of length one if there are two items or more.

    A chunk of one network runs other kernels than a larger one and rounds differently, which alone would look like an
    effect of the deletion. So with `size` 2 an odd total has one slice of three.
    """
    count = math.ceil(total / max(size, 2))
    if total >= 2:
        count = min(count, total // 2)
    edges = [round(index * total / count) for index in range(count + 1)] if count else []
    yield from (slice(low, high) for low, high in itertools.pairwise(edges))


def chunk_size(memory_mb: int, values_each: int, most: int = 64) -> int:
    """How many items of `values_each` float32 values fit into memory: 1 to `most`, above which nothing is gained."""
    return max(1, min(most, memory_mb * 2**20 // (4 * max(values_each, 1))))


def network_chunks(network: Network, total: int, memory_mb: int) -> list[slice]:
    """Chunks of networks that are fine-tuned and evaluated together."""
    weights = num_weights(dict(network.module.named_parameters()))
    return list(chunks(total, chunk_size(memory_mb, 6 * weights + 4 * QUERY_BATCH * network.activation_values)))
