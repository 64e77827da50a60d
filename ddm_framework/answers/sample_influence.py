"""First-order influence of single training samples, on themselves and on the validation loss (TracIn)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddm_framework.network import SAMPLE_GRADIENT, Gradient, broadcast, learning_rate
from ddm_framework.runs import Workspace
from ddm_framework.runs.samples import weighted_epochs

CHECKPOINTS = 3
"""Checkpoints at which gradients of single samples are taken, evenly spaced and θ_τ among them."""
BATCH = 256


@dataclass(frozen=True, slots=True)
class Influence:
    """What the steps on each of N training samples did, to first order.

    Attributes:
        on_itself: Σ_t η_t ‖g_i(θ_t)‖², float64 (N,), by how much they lowered the sample's own loss.
        loss_without: Σ_t η_t ⟨g_i(θ_t), g_val(θ_t)⟩, float64 (N,): by how much the mean validation loss would be higher
            without them. None where there is no validation split.
    """

    on_itself: Tensor
    loss_without: Tensor | None


def influences(workspace: Workspace) -> Influence:
    """Of every training sample.

    η_t sums the learning rates of the epochs that a checkpoint stands for, over the batch size; it is 1 where the
    network was trained elsewhere, and nobody knows them.

    Source: Pruthi et al. 2020, Estimating Training Data Influence by Tracing Gradient Descent, Sec. 3.2 (TracInCP).
    """
    data, held = workspace.data.train, workspace.data.validation
    own = torch.zeros(len(data), dtype=torch.float64)
    other = torch.zeros_like(own) if len(held) else None
    everything = torch.arange(len(data), device=data.labels.device)
    for epoch, rate in _rates(workspace):
        whole = _validation_gradient(workspace, epoch) if len(held) else None
        for rows, gradient in sample_gradients(workspace, epoch, everything):
            own[rows] += rate * products(gradient, gradient)
            if other is not None and whole is not None:
                other[rows] += rate * products(gradient, whole)
    return Influence(own, other)


def _rates(workspace: Workspace) -> Iterator[tuple[int, float]]:
    training, before = workspace.recipe.training, 0
    for epoch, _ in weighted_epochs(list(workspace.trajectory), CHECKPOINTS):
        if workspace.recipe.target.checkpoint is not None:
            yield epoch, 1.0
        else:
            # Momentum applies each gradient again in later steps, by 1 / (1 - momentum) in total.
            steps = sum(learning_rate(training, past) for past in range(before, epoch))
            yield epoch, steps / (training.batch_size * (1 - training.momentum))
        before = epoch


def sample_gradients(workspace: Workspace, epoch: int, samples: Tensor) -> Iterator[tuple[slice, Gradient]]:
    """Gradients of the own losses of training samples at θ_t, stacked, as many at a time as the budget allows.

    Args:
        workspace: of a run whose target is trained.
        epoch: t, which was saved.
        samples: positions in the training split, int64 (n,).
    Yields:
        Which of the n samples, and their gradients.
    """
    data, network, parameters = workspace.data.train, workspace.trained.at(epoch), workspace.trajectory[epoch]
    size = workspace.budget.fitting(network, SAMPLE_GRADIENT)
    for low in range(0, len(samples), size):
        rows = slice(low, min(low + size, len(samples)))
        images, labels = data.images[samples[rows]][:, None], data.labels[samples[rows]][:, None]
        stack = broadcast(parameters, len(images))
        yield rows, network.gradients(stack, images, labels, torch.ones(len(images), 1, device=labels.device))


def _validation_gradient(workspace: Workspace, epoch: int) -> Gradient:
    """Of the mean validation loss, with a leading dimension of one."""
    network, parameters = workspace.trained.at(epoch), workspace.trajectory[epoch]
    held, total = workspace.data.validation, {name: torch.zeros_like(each)[None] for name, each in parameters.items()}
    for images, labels in zip(held.images.split(BATCH), held.labels.split(BATCH), strict=True):
        weights = torch.full((1, len(labels)), 1 / len(held), device=labels.device)
        found = network.gradients(broadcast(parameters, 1), images, labels, weights)
        total = {name: each + found[name] for name, each in total.items()}
    return total


def products(first: Gradient, second: Gradient) -> Tensor:
    """Inner products of stacked gradients, or of each with one, float64, on the CPU."""
    each = [(first[name] * second[name]).flatten(1).sum(1).double() for name in first]
    return torch.stack(each).sum(0).cpu()
