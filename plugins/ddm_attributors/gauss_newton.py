"""Dattri's two ways to apply the damped inverse of a Gauss-Newton matrix RᵀR."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_attributors.libraries import needed
from ddm_framework.network import Budget

_POWER_STEPS = 20


def by_conjugate_gradients(
    rows: Tensor, vectors: Tensor, damping: float, iterations: int, budget: Budget, attributor: str
) -> Tensor:
    """(RᵀR + damping)⁻¹ v of each vector, by dattri's conjugate gradients.

    Args:
        rows: R, (M, weights).
        vectors: (V, weights).
        damping: added to the diagonal.
        iterations: each a product of all vectors with R and Rᵀ.
        budget: bounds how many vectors are worked on at a time.
        attributor: for the message if dattri is missing.
    Returns:
        (V, weights).
    """
    hessian = needed("dattri.func.hessian", attributor)

    def half_squared(shift: Tensor) -> Tensor:
        return (rows @ shift).square().sum() / 2

    def solve(some: Tensor, steps: int) -> Tensor:
        origin = rows.new_zeros(rows.shape[1])
        solver = hessian.ihvp_at_x_cg(half_squared, origin, max_iter=steps, regularization=damping)
        products: Tensor = solver(some)
        # dattri does not stop at convergence: it divides a zero residual by itself. Repeat these with fewer steps.
        lost = ~products.isfinite().all(1)
        if steps and lost.any():
            products[lost] = solve(some[lost], steps // 2)
        return products

    size = budget.items(8 * rows.shape[1] + 2 * len(rows), most=len(vectors))
    return torch.cat([solve(some, iterations) for some in vectors.split(size)])


def by_lissa(
    rows: Tensor,
    vectors: Tensor,
    damping: float,
    depth: int,
    batch_size: int,
    repeats: int,
    budget: Budget,
    attributor: str,
) -> Tensor:
    """(RᵀR + damping)⁻¹ v of each vector, by dattri's LiSSA; draws from the global random state.

    The recursion is scaled by a bound on the largest eigenvalue of any batch, so that it converges.

    Args:
        rows: R, (M, weights).
        vectors: (V, weights).
        damping: added to the diagonal.
        depth: steps of the recursion.
        batch_size: rows drawn for each step and vector.
        repeats: recursions that are averaged.
        budget: bounds how many vectors are worked on at a time.
        attributor: for the message if dattri is missing.
    Returns:
        (V, weights).
    Source: Agarwal et al. 2017, Second-Order Stochastic Optimization for Machine Learning in Linear Time.
    """
    hessian = needed("dattri.func.hessian", attributor)

    # Positions instead of rows, because dattri would differentiate with respect to the rows too.
    def half_squared(shift: Tensor, positions: Tensor) -> Tensor:
        return (rows[positions.long()] @ shift).square().mean() * len(rows) / 2

    batch_size = min(batch_size, len(rows))
    scaling = _largest_eigenvalue(rows) + float(rows.square().sum()) / batch_size + damping
    solver = hessian.ihvp_lissa(
        half_squared,
        batch_size=batch_size,
        num_repeat=repeats,
        recursion_depth=depth,
        damping=damping / scaling,
        scaling=scaling,
    )
    start = rows.new_zeros(rows.shape[1])
    positions = torch.arange(len(rows), dtype=torch.float64, device=rows.device)
    size = budget.items((2 * batch_size + 8) * rows.shape[1], most=len(vectors))
    return torch.cat([solver((start, positions), some, in_dims=(None, 0)) for some in vectors.split(size)])


def _largest_eigenvalue(rows: Tensor) -> float:
    """The largest eigenvalue of RᵀR, by power iteration."""
    vector = rows.sum(0) + rows.abs().sum(0)
    for _ in range(_POWER_STEPS):
        vector = rows.T @ (rows @ (vector / vector.norm().clamp(min=torch.finfo(rows.dtype).tiny)))
    return float(vector.norm())
