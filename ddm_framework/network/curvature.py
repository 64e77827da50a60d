"""The Gauss-Newton matrix of the training loss as RᵀR, and what its damped inverse does to vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework.data.images import Images
from ddm_framework.network.memory import SAMPLE_GRADIENT, Budget
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Parameters, broadcast, flat


def curvature_rows(
    network: Network, parameters: Parameters, images: Images, count: int, budget: Budget, generator: torch.Generator
) -> Tensor:
    """Rows R with RᵀR the Gauss-Newton matrix of the mean cross entropy, which for a linear model is its Hessian.

    Each image has a row √(p_c / N) ∇log p_c for each class c. If there are more than `count` rows, `count` of them are
    drawn, with probabilities proportional to p_c ‖e_c − p‖², their part of the trace with respect to the logits, and
    scaled so that RᵀR is unbiased.

    Args:
        network: the architecture.
        parameters: of one network.
        images: N network inputs (N, C, H, W).
        count: largest number of rows; count times (number of weights) values are held in memory.
        budget: bounds the additional memory of a chunk of gradients.
        generator: of the draws.
    Returns:
        (count or fewer, weights).
    """
    with torch.no_grad():
        probabilities = torch.cat([network(parameters, batch) for batch in images.split(128)]).softmax(1).double()
    lengths = 1 - 2 * probabilities + probabilities.square().sum(1, keepdim=True)
    parts = (probabilities * lengths.clamp(min=0)).flatten()
    weights = probabilities.flatten() / len(images)
    chosen = torch.arange(len(parts), device=parts.device)
    if len(parts) > count:
        # Systematic sampling: equally spaced from a random start, so a row of weight above 1 / count is never missed.
        places = (torch.arange(count) + torch.rand(1, generator=generator)) / count
        chosen = torch.searchsorted(parts.cumsum(0), places.to(parts) * parts.sum()).clamp(max=len(parts) - 1)
        weights = weights * parts.sum() / (count * parts)
    classes = probabilities.shape[1]
    samples, labels = images[chosen // classes], chosen % classes
    size, ones = budget.fitting(network, SAMPLE_GRADIENT), samples.new_ones(len(samples), 1)
    parts_of_rows = (
        network.gradients(broadcast(parameters, len(image)), image, label, one)
        for image, label, one in zip(
            samples[:, None].split(size), labels[:, None].split(size), ones.split(size), strict=True
        )
    )
    rows = torch.cat([flat(each) for each in parts_of_rows])
    return rows * weights[chosen].sqrt().to(rows.dtype)[:, None]


class DampedInverse:
    """(RᵀR + damping)⁻¹, applied exactly through the Gram matrix of R's rows (Woodbury).

    (RᵀR + λI)⁻¹ v = (v − Rᵀ (RRᵀ + λI)⁻¹ R v) / λ, so one factor of the M rows' Gram matrix serves every vector.
    """

    def __init__(self, rows: Tensor, damping: float) -> None:
        """Factor once.

        Args:
            rows: R, (M, weights).
            damping: λ > 0, in the units of the loss's second derivatives.
        """
        self._rows, self._damping = rows, damping
        gram = (rows @ rows.T).double()
        self._factor = torch.linalg.cholesky(
            gram + damping * torch.eye(len(rows), dtype=gram.dtype, device=gram.device)
        )

    def __call__(self, vectors: Tensor) -> Tensor:
        """Of each vector, (V, weights) to (V, weights)."""
        inner = torch.cholesky_solve((self._rows @ vectors.T).double(), self._factor).to(vectors.dtype)
        return (vectors - inner.T @ self._rows) / self._damping
