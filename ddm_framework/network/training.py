"""Train a stack of networks from the same start in the same batch order (Eq. 2): the target and its retrainings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
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
    """A stack of networks after some epochs, with what their optimizer remembers.

    Attributes:
        epoch: how many epochs they were trained.
        parameters: of R networks.
        velocity: momentum's buffer of each, or Adam's mean of gradients; zero without momentum.
        squares: Adam's mean of squared gradients; empty before its first step and for others.
    """

    epoch: int
    parameters: Parameters
    velocity: Parameters
    squares: Parameters = field(default_factory=dict)

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
    if settings.label_smoothing and not labels.is_floating_point():
        labels = smoothed(labels, network.info.num_classes, settings.label_smoothing, images.dtype)
    reached = state
    for epoch in range(state.epoch, settings.epochs):
        lr = learning_rate(settings, epoch)
        drawn = augmentations(settings, images.shape, seeds, epoch, device)
        order = _order(len(images), seed, epoch)
        batches, looked_up = (
            order.to(place).split(settings.batch_size, -1) for place in (device, index_device(images))
        )
        for number, (batch, rows) in enumerate(zip(batches, looked_up, strict=True), epoch * len(batches) + 1):
            present = weights[:, batch] if batch.ndim == 1 else weights.gather(1, batch)
            share = present / settings.batch_size
            inputs = augmented(images[rows], batch, drawn)
            gradient = network.gradients(reached.parameters, inputs, labels[batch], share)
            step = _descend if settings.optimizer == "sgd" else partial(_adapt, number)
            reached = step(reached, gradient, lr, settings)
            if push is not None:
                pushed = {name: each + push[name] / len(batches) for name, each in reached.parameters.items()}
                reached = replace(reached, parameters=pushed)
        if not is_finite(reached.parameters):
            raise DivergenceError(
                f"training diverged in epoch {epoch + 1} (NaN or infinite weights); lower training.lr ({settings.lr})"
            )
        reached = replace(reached, epoch=epoch + 1)
        yield reached


def _order(count: int, seed: int | Sequence[int], epoch: int) -> Tensor:
    """Order of the samples in an epoch, int64 (N,), or (R, N) if each network has its own seed."""
    if isinstance(seed, int):
        return torch.randperm(count, generator=generator(seed, "order", epoch))
    return torch.stack([_order(count, each, epoch) for each in seed])


def smoothed(labels: Tensor, classes: int, share: float, dtype: torch.dtype) -> Tensor:
    """Class ids (...) as probabilities (..., classes), of which a share is spread evenly over all classes."""
    return F.one_hot(labels, classes).to(dtype) * (1 - share) + share / classes


def _descend(state: TrainingState, gradient: Parameters, lr: float, settings: Training) -> TrainingState:
    """One step of stochastic gradient descent with momentum and weight decay."""
    parameters, velocity = state.parameters, state.velocity
    if settings.weight_decay:
        gradient = {name: each + settings.weight_decay * parameters[name] for name, each in gradient.items()}
    if settings.momentum:
        velocity = {name: settings.momentum * velocity[name] + each for name, each in gradient.items()}
        gradient = velocity
    moved = {name: each - lr * gradient[name] for name, each in parameters.items()}
    return replace(state, parameters=moved, velocity=velocity)


def _adapt(number: int, state: TrainingState, gradient: Parameters, lr: float, settings: Training) -> TrainingState:
    """Step `number`, counted from 1, of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019)."""
    (first, second), decay = settings.betas, settings.weight_decay
    parameters = state.parameters
    squares = state.squares or {name: torch.zeros_like(each) for name, each in parameters.items()}
    if decay and settings.optimizer == "adam":
        gradient = {name: each + decay * parameters[name] for name, each in gradient.items()}
    elif decay:
        parameters = {name: each * (1 - lr * decay) for name, each in parameters.items()}
    mean = {name: each + (1 - first) * (gradient[name] - each) for name, each in state.velocity.items()}
    squares = {name: second * each + (1 - second) * gradient[name].square() for name, each in squares.items()}
    length, spread = lr / (1 - first**number), math.sqrt(1 - second**number)
    moved = {
        name: each - length * mean[name] / (squares[name].sqrt() / spread + settings.eps)
        for name, each in parameters.items()
    }
    return replace(state, parameters=moved, velocity=mean, squares=squares)


def learning_rate(settings: Training, epoch: int) -> float:
    """Learning rate of an epoch, counted from 0."""
    warm = settings.warmup_epochs
    if epoch < warm:
        return settings.lr * (epoch + 1) / (warm + 1)
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * (1 + math.cos(math.pi * (epoch - warm) / max(1, settings.epochs - warm))) / 2
