"""Train a stack of networks from the same start in the same batch order (Eq. 2): the target and its retrainings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.data.images import index_device
from ddm_framework.data.splits import ImageSet
from ddm_framework.errors import DivergenceError
from ddm_framework.network.augmentation import augmentations, augmented
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, is_finite
from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Training


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A stack of networks after some epochs, and the momentum buffer of each (zero without momentum)."""

    epoch: int
    parameters: Parameters
    velocity: Parameters

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))


def start(initial: Parameters, count: int) -> TrainingState:
    """A stack of `count` networks that all start at θ_0."""
    return start_each([initial] * count)


def start_each(initial: Sequence[Parameters]) -> TrainingState:
    """A stack of networks, each with its own initial weights."""
    parameters = {name: torch.stack([each[name] for each in initial]) for name in initial[0]}
    return TrainingState(0, parameters, {name: torch.zeros_like(each) for name, each in parameters.items()})


def train(
    network: Network,
    state: TrainingState,
    data: ImageSet,
    weights: Tensor,
    settings: Training,
    seed: int | Sequence[int],
    *,
    push: Parameters | None = None,
) -> Iterator[TrainingState]:
    """Continue the training, one epoch at a time.

    Every network sees the same samples in the same order. The term of a deleted sample is left out of the sum, which
    is still divided by the full batch size, so that the other terms are not rescaled. The last batch, which may be
    smaller, is divided by the full size too.

    Args:
        network: the architecture.
        state: where to continue.
        data: N images; their labels are class ids (N,), or probabilities (N, classes).
        weights: (R, N); 1 = the sample is present, 0 = it is deleted.
        settings: of the training.
        seed: of the batch order and of augmentation, common to all networks, or one per network; the draws of an epoch
            depend only on the seed and the epoch.
        push: added to each network (R of them, stacked) in every epoch, spread evenly over its batches.
    Yields:
        The state after each epoch.
    Raises:
        DivergenceError: if a weight becomes NaN or infinite.
    Source: Eq. 2; Sec. 4.1.
    """
    seeds = [seed] if isinstance(seed, int) else list(seed)
    images, labels = data.images, data.labels
    weights = weights.to(images.dtype)
    device = weights.device
    parameters, velocity = state.parameters, state.velocity
    for epoch in range(state.epoch, settings.epochs):
        lr = learning_rate(settings, epoch)
        drawn = augmentations(settings, images.shape, seeds, epoch, device)
        order = _order(len(images), seed, epoch)
        batches, looked_up = (
            order.to(place).split(settings.batch_size, -1) for place in (device, index_device(images))
        )
        for batch, rows in zip(batches, looked_up, strict=True):
            present = weights[:, batch] if batch.ndim == 1 else weights.gather(1, batch)
            share = present / settings.batch_size
            inputs = augmented(images[rows], batch, drawn)
            gradient = network.gradients(parameters, inputs, labels[batch], share)
            parameters, velocity = _descend(parameters, velocity, gradient, lr, settings)
            if push is not None:
                parameters = {name: each + push[name] / len(batches) for name, each in parameters.items()}
        if not is_finite(parameters):
            raise DivergenceError(
                f"training diverged in epoch {epoch + 1} (NaN or infinite weights); lower training.lr ({settings.lr})"
            )
        yield TrainingState(epoch + 1, parameters, velocity)


def _order(count: int, seed: int | Sequence[int], epoch: int) -> Tensor:
    """Order of the samples in an epoch, int64 (N,), or (R, N) if each network has its own seed."""
    if isinstance(seed, int):
        return torch.randperm(count, generator=generator(seed, "order", epoch))
    return torch.stack([_order(count, each, epoch) for each in seed])


def _descend(
    parameters: Parameters, velocity: Parameters, gradient: Parameters, lr: float, settings: Training
) -> tuple[Parameters, Parameters]:
    """One step of stochastic gradient descent with momentum and weight decay."""
    if settings.weight_decay:
        gradient = {name: each + settings.weight_decay * parameters[name] for name, each in gradient.items()}
    if settings.momentum:
        velocity = {name: settings.momentum * velocity[name] + each for name, each in gradient.items()}
        gradient = velocity
    return {name: each - lr * gradient[name] for name, each in parameters.items()}, velocity


def learning_rate(settings: Training, epoch: int) -> float:
    """Learning rate of an epoch, counted from 0."""
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
