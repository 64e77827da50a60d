"""How many networks, clusters or samples are worked on at a time, so that they fit into memory."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from ddm_framework.network.networks import Network
from ddm_framework.resources import is_shortage
from ddm_framework.resources import keep_freed_memory as keep_freed_memory


@dataclass(frozen=True, slots=True)
class Cost:
    """Memory that one network or sample of a stack takes at most, in float32 values.

    `benchmarks/memory.py` measures it: in five networks items took up to 61 % of what these costs say.

    Attributes:
        weights: multiples of the network's weights.
        activations: multiples of the activations of one forward pass of each of its images.
        most: items in a chunk above which nothing is gained on a processor.
    """

    weights: int
    activations: int
    most: int = 64


EVALUATION = Cost(weights=6, activations=4)
"""A network that is fine-tuned and evaluated on `Network.query_batch` images at a time."""
TRAINING = Cost(weights=4, activations=4, most=8)
"""A network that is trained: itself, velocity, gradient and update. The activations of more than eight or ten leave
the processor's cache (benchmarks/bank.py), and smaller chunks can be shared among more processes."""
FINE_TUNING = Cost(weights=4, activations=3, most=256)
"""A gradient of one network on the synthetic images of one cluster."""
BLOCK_GRADIENT = Cost(weights=2, activations=3, most=32)
"""A gradient of one network on one block of real images."""
SECOND_ORDER = Cost(weights=6, activations=16, most=1024)
"""A cluster that is matched: the graph of a gradient of a gradient."""
SAMPLE_GRADIENT = Cost(weights=2, activations=4)
"""A gradient of one network on one sample."""


STILL = 3
"""Multiples of the activations before the first weights that are trained: there nothing is differentiated twice."""


WIDER = 32
"""So many times more items are worth it on an accelerator, which has no processor's cache to leave."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory for one chunk.

    Attributes:
        memory_mb: in MiB, besides the data and the networks that are kept.
    """

    memory_mb: int

    def items(self, values_each: int, most: int = 64) -> int:
        """How many items of `values_each` float32 values fit: 1 to `most`, above which nothing is gained."""
        return max(1, min(most, self.memory_mb * 2**20 // (4 * max(values_each, 1))))

    def fitting(self, network: Network, cost: Cost, images: int = 1, kept: int = 0) -> int:
        """How many networks or samples fit, each with so many images.

        Args:
            network: whose weights and activations count.
            cost: of each item.
            images: that pass through the network at a time for each item.
            kept: multiples of the weights that are kept for each item besides.
        """
        weights = (cost.weights + kept) * network.num_weights
        still, moving = network.still_values, network.activation_values - network.still_values
        activations = cost.activations * moving + min(cost.activations, STILL) * still
        return self.items(weights + images * activations, cost.most * (1 if network.device.type == "cpu" else WIDER))

    def chunks(self, network: Network, total: int, cost: Cost = EVALUATION, images: int | None = None) -> list[slice]:
        """Chunks of `total` networks; by default of such as are fine-tuned and evaluated."""
        return list(chunks(total, self.fitting(network, cost, images or network.query_batch)))


Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def halved(count: int, work: Callable[[slice], Result], what: str) -> Iterator[tuple[slice, Result]]:
    """Work on a chunk at once, and where memory ends on its halves, and on theirs.

    Its size changes no numbers where a network has the same bits in every stack, on one thread of a processor;
    elsewhere they round as in any other chunk.

    Args:
        count: items in the chunk.
        work: on some of the items.
        what: they are, for the log.
    Yields:
        Parts of the chunk in their order, and what the work returned.
    Raises:
        Exception: as the work raises it; memory that ends for a single item too.
    """
    waiting = [slice(0, count)]
    while waiting:
        part = waiting.pop()
        try:
            found = work(part)
        except (MemoryError, RuntimeError) as error:
            if part.stop - part.start < 2 or not is_shortage(error):
                raise
        else:
            yield part, found
            continue
        # Here the error is gone, and with it what its frames held.
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        logger.warning("memory ended with %d %s at once; going on with half as many", part.stop - part.start, what)
        middle = (part.start + part.stop) // 2
        waiting += [slice(middle, part.stop), slice(part.start, middle)]


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices of nearly equal length, at most `size` long."""
    count = math.ceil(total / max(size, 1))
    edges = [round(index * total / count) for index in range(count + 1)] if count else []
    yield from (slice(low, high) for low, high in itertools.pairwise(edges))
