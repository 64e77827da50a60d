"""SOURCE: influence along the training, unrolled in segments that each have a gradient and a curvature of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ddm_attributors.moves import effects_of, need_training, pulls
from ddm_framework import attributor
from ddm_framework.network import curvature_rows, learning_rate
from ddm_framework.online import Objective, Queries
from ddm_framework.recipe import Training
from ddm_framework.runs import Workspace


@attributor(linear=True, logits=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    segments: Annotated[int, Field(ge=1)] = 3,
    damping: Annotated[float, Field(ge=0)] = 0.0,
    rows: Annotated[int, Field(ge=1)] = 1024,
) -> Tensor:
    """Effect of deleting each cluster, by gradient descent unrolled in segments of constant gradient and curvature.

    Within a segment of learning rates that sum to t over its steps, a cluster's gradient g moves the weights by
    H⁻¹(1 − exp(−tH)) g, and what earlier segments moved shrinks by exp(−tH). H is the Gauss-Newton matrix of the mean
    loss plus the weight decay, averaged over the segment's checkpoints as is g; functions of it are exact, by the
    eigenvalues of the Gram matrix of its rows.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
        segments: of equal numbers of epochs, or one per saved checkpoint if there are fewer.
        damping: added to H, besides the weight decay.
        rows: largest number of rows of the square root of each H.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
    Raises:
        DDMError: if the target was trained elsewhere, or the objective has no gradient.
    Source: Bae et al. 2024, Training Data Attribution via Approximate Unrolled Differentiation, Sec. 3.
    """
    need_training(workspace, "source")
    decay = damping + workspace.recipe.training.weight_decay
    moves = workspace.made_once(f"source {segments} {decay} {rows}", lambda: _moves(workspace, segments, decay, rows))
    return effects_of(workspace, queries, objective, moves)


def _moves(workspace: Workspace, count: int, decay: float, rows: int) -> Tensor:
    """Displacement without each cluster, (K, weights)."""
    total: Tensor | None = None
    for segment in _segments(workspace, count):
        gradient = torch.stack([pulls(workspace, epoch) for epoch in segment.epochs]).mean(0)
        curvature = _Curvature(_rows(workspace, segment.epochs, rows), decay)
        moved = curvature(gradient, segment.gained)
        total = moved if total is None else moved + curvature(total, segment.kept)
    assert total is not None
    return total


@dataclass(frozen=True, slots=True)
class _Segment:
    """Checkpoints of a part of the training, and t, the sum of the learning rates of its steps."""

    epochs: Sequence[int]
    time: float

    def kept(self, eigenvalues: Tensor) -> Tensor:
        """exp(−tλ)."""
        return (-self.time * eigenvalues).exp()

    def gained(self, eigenvalues: Tensor) -> Tensor:
        """(1 − exp(−tλ)) / λ, which is t at λ = 0."""
        some = eigenvalues.clamp(min=1e-12)
        return -torch.expm1(-self.time * some) / some


def _segments(workspace: Workspace, count: int) -> Iterator[_Segment]:
    training = workspace.recipe.training
    saved = [epoch for epoch in workspace.trajectory if epoch > 0] or list(workspace.trajectory)
    count, begun = min(count, len(saved)), 0
    for index in range(count):
        epochs = saved[round(index * len(saved) / count) : round((index + 1) * len(saved) / count)]
        yield _Segment(epochs, _time(training, range(begun, epochs[-1]), len(workspace.data.train)))
        begun = epochs[-1]


def _time(training: Training, epochs: range, images: int) -> float:
    """Sum of the learning rates of all steps on the mean loss; momentum repeats each by 1 / (1 − momentum) in all."""
    rates = sum(learning_rate(training, epoch) for epoch in epochs)
    return rates * images / training.batch_size / (1 - training.momentum)


def _rows(workspace: Workspace, epochs: Sequence[int], count: int) -> Tensor:
    """Rows of the mean Gauss-Newton matrix over some checkpoints."""
    draws, images, target = workspace.generator("source"), workspace.data.train.images, workspace.trained
    each = max(1, count // len(epochs))
    found = [
        curvature_rows(target.at(epoch), target.trajectory[epoch], images, each, workspace.budget, draws)
        for epoch in epochs
    ]
    return torch.cat(found) / len(epochs) ** 0.5


class _Curvature:
    """Functions of RᵀR + decay, by the eigenvalues of RRᵀ."""

    def __init__(self, rows: Tensor, decay: float) -> None:
        values, vectors = torch.linalg.eigh((rows @ rows.T).double())
        large = values > values.max() * torch.finfo(rows.dtype).eps * len(rows)
        self._rows, self._decay = rows, decay
        self._values, self._vectors = values[large], vectors[:, large]

    def __call__(self, vectors: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """f(RᵀR + decay) v of each vector, (V, weights)."""
        outside = function(self._values.new_tensor([self._decay]))
        within = (function(self._values + self._decay) - outside) / self._values
        inner = self._vectors * within @ (self._vectors.T @ (self._rows @ vectors.T).double())
        return outside.to(vectors.dtype) * vectors + inner.T.to(vectors.dtype) @ self._rows
