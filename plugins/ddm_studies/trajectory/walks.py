"""Walks through weight space: down the loss of a synset at several learning rates, and up the loss of real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework import DDMError, Workspace, derive_seed
from ddm_framework.data import Images, subset
from ddm_framework.network import Gradient, Network, Parameters, broadcast, norms, scaled, take
from ddm_framework.offline import Synset
from ddm_studies.comparison.running import tracked

BATCH = 256
"""Images per gradient computation."""
UPHILL_STEPS, UPHILL_SHARE, UPHILL_IMAGES = 20, 0.2, 1000
"""The walk up the loss of real training images shows the effect of a reversed gradient on accuracy. These are its
number of steps, its length as a share of the distance to θ_0, and the maximal number of images."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk through weight space.

    Attributes:
        rate: the learning rate.
        points: networks at equal distances in steps, the first at the start.
        validation: accuracy of each point on the validation split.
        distances: of each point to the intended end, as shares of ‖θ_τ − θ_0‖.
    """

    rate: float
    points: Sequence[Parameters]
    validation: Sequence[float]
    distances: Sequence[float]

    @property
    def lowest(self) -> int:
        """The point with the lowest validation accuracy."""
        return min(range(len(self.points)), key=self.validation.__getitem__)


def walks(
    workspace: Workspace,
    synset: Synset,
    start: Parameters,
    end: Parameters,
    rates: Sequence[float],
    steps: int,
    points: int,
) -> list[Walk]:
    """One walk down the loss of a synset for each learning rate; those with weights that are not finite are left out.

    Raises:
        DDMError: if none is left, or if both ends are the same network.
    """
    images, labels = synset.images.flatten(0, 1), synset.labels.flatten(0, 1)

    def downhill(stack: Parameters) -> Gradient:
        return mean_gradient(workspace.network, stack, images, labels)

    length, found = distance(start, end), []
    stacks = descent(start, downhill, torch.tensor(rates, device=workspace.device), steps, points)
    reached = list(tracked(workspace, "walking on synthetic images (points)", stacks, points))
    for row, rate in enumerate(rates):
        way = [take(stack, row) for stack in reached]
        distances = [distance(each, end) / length for each in way]
        if all(each < float("inf") for each in distances):
            validation = [workspace.accuracy_of(each, workspace.data.validation) for each in way]
            found.append(Walk(rate, way, validation, distances))
    if not found:
        raise DDMError(f"no learning rate of {list(rates)} keeps the weights finite; name lower ones in study.rates")
    return found


def uphill(workspace: Workspace) -> Walk:
    """Walk up the loss of real training images, a stratified sample, in equal steps from θ_τ."""
    target, start, train = workspace.target, workspace.initial, workspace.data.train
    whole = distance(target, start)
    length = whole * UPHILL_SHARE / UPHILL_STEPS
    seed = derive_seed(workspace.recipe.general.seed, "uphill")
    chosen = subset(train.labels.cpu(), min(UPHILL_IMAGES, len(train)), seed)
    images = train.take(chosen.to(train.labels.device))
    way = [target]
    for _ in range(UPHILL_STEPS):
        slope = mean_gradient(workspace.network, broadcast(way[-1], 1), images.images, images.labels)
        step = take(scaled(slope, length / norms(slope).clamp_min(torch.finfo(torch.float32).tiny)), 0)
        way.append({name: each + step[name] for name, each in way[-1].items()})
    validation = [workspace.accuracy_of(each, workspace.data.validation) for each in way]
    return Walk(length, way, validation, [distance(each, start) / whole for each in way])


def descent(
    start: Parameters, gradient: Callable[[Parameters], Gradient], rates: Tensor, steps: int, points: int
) -> Iterator[Parameters]:
    """Plain gradient descent of a stack of networks from one start, each with its own learning rate (R,).

    Yields `points` stacks, spaced evenly over the steps, including the start and the end.
    """
    wanted = [round(index * steps / (points - 1)) for index in range(points)]
    stack = broadcast(start, len(rates))
    for step in range(steps + 1):
        for _ in range(wanted.count(step)):
            yield stack
        if step < steps:
            slope = scaled(gradient(stack), rates)
            stack = {name: each - slope[name] for name, each in stack.items()}


def mean_gradient(network: Network, stack: Parameters, images: Images, labels: Tensor) -> Gradient:
    """Gradient of the mean cross entropy of each network of a stack on the same images (N, C, H, W).

    Labels are class ids (N,) or probabilities (N, classes).
    """
    total, count = {name: torch.zeros_like(each) for name, each in stack.items()}, len(next(iter(stack.values())))
    for part in torch.arange(len(labels), device=labels.device).split(BATCH):
        weights = images[part].new_full((count, len(part)), 1 / len(labels))
        found = network.gradients(stack, images[part], labels[part], weights)
        total = {name: each + found[name] for name, each in total.items()}
    return total


def distance(one: Parameters, other: Parameters) -> float:
    """Euclidean distance between the weights of two networks."""
    return float(norms({name: (one[name] - each)[None] for name, each in other.items()})[0])
