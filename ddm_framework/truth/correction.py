"""A few exact retrainings used as data: estimated effects scaled and corrected by what really happened.

R networks were retrained, each without some clusters. Their true changes y and the estimated ones e of the same
networks, in some unit such as centred logits, give the scale s ≥ 0 and the penalty λ of a Bayesian linear regression
around the estimate. With D (R, K), where 1 says that a network lacks a cluster,

    v = Dᵀ (D Dᵀ + λI)⁻¹ (y - s e)                                a datamodel of the residual, (K, M)
    change without a set d = s · its estimate + d v                sets; the estimate is of the network of the set
    w = s w_est + Dᵀ (D Dᵀ + λI)⁻¹ (y - s D w_est)                 single clusters, where e = D w_est

Left out one at a time, the networks are mispredicted by G (y - s e), with Q = (D Dᵀ + λI)⁻¹ and row i of G that of Q
divided by Q_ii. So for each λ the best s has a closed form, and both are chosen without fitting anything again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST = 3
"""Retrainings that a correction needs: one left out, and two of which one is left out in turn."""
_RELATIVE = [*(10.0 ** (each / 4) for each in range(-12, 13)), math.inf]
"""Penalties that are tried, as multiples of the mean diagonal of D Dᵀ; the last one leaves the estimate uncorrected."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How far estimates are scaled, and how far the residual is trusted.

    Attributes:
        scale: s, at least 0.
        penalty: λ, above 0; infinity leaves the scaled estimate as it is.
        error: mean squared error of the retrainings left out one at a time, with this s and λ. They were chosen by it,
            so it flatters; `left_out` does not.
    """

    scale: float
    penalty: float
    error: float


@dataclass(frozen=True, slots=True)
class Correction:
    """What the retrainings teach.

    Attributes:
        strength: the scale and the penalty.
        coefficients: v, float64 (K, M): what is added for each deleted cluster.
    """

    strength: Strength
    coefficients: Tensor

    def apply(self, deleted: Tensor, estimated: Tensor) -> Tensor:
        """Corrected changes, float64 (P, M).

        Args:
            deleted: (P, K); 1 = the cluster is deleted.
            estimated: (P, M), of the same networks.
        """
        return self.strength.scale * estimated.double() + deleted.double() @ self.coefficients


def choose_strength(deleted: Tensor, estimated: Tensor, true: Tensor) -> Strength:
    """The scale and the penalty with the smallest closed-form leave-one-out error.

    Args:
        deleted: D, (R, K); 1 = the cluster is deleted.
        estimated: e, (R, M), changes of the estimated networks; M = queries times behaviours.
        true: y, (R, M), changes of the retrained networks.
    Raises:
        ValueError: if shapes do not fit, a value is not finite, R is below 2, or a network lacks nothing.
    Source: Allen 1974 (PRESS); Bishop 2006, Sec. 3.3, for the regression.
    """
    deleted, estimated, true = _checked(deleted, estimated, true, least=2)
    return _chosen(deleted @ deleted.T, _products(estimated, true), true.shape[1])


def correct(deleted: Tensor, estimated: Tensor, true: Tensor, strength: Strength | None = None) -> Correction:
    """Fit the datamodel of the residual.

    Args:
        deleted: D, (R, K); 1 = the cluster is deleted.
        estimated: e, (R, M).
        true: y, (R, M).
        strength: the scale and the penalty; by default those of `choose_strength`.
    Raises:
        ValueError: as `choose_strength`.
    """
    deleted, estimated, true = _checked(deleted, estimated, true, least=2 if strength is None else 1)
    if strength is None:
        strength = _chosen(deleted @ deleted.T, _products(estimated, true), true.shape[1])
    residual = true - strength.scale * estimated
    return Correction(strength, deleted.T @ _solved(deleted @ deleted.T, strength.penalty, residual))


def left_out(deleted: Tensor, estimated: Tensor, true: Tensor) -> Tensor:
    """Predicted change of each retrained network by all the others, which also choose s and λ; float64 (R, M).

    This is the nested leave-one-out prediction: a network has no say in what predicts it.

    Args:
        deleted: D, (R, K); 1 = the cluster is deleted.
        estimated: e, (R, M).
        true: y, (R, M).
    Raises:
        ValueError: as `choose_strength`, or if R is below 3.
    """
    deleted, estimated, true = _checked(deleted, estimated, true, least=FEWEST)
    shared, products = deleted @ deleted.T, _products(estimated, true)
    predicted = torch.empty_like(true)
    for left in range(len(true)):
        kept = torch.arange(len(true)) != left
        inner = shared[kept][:, kept]
        strength = _chosen(inner, [each[kept][:, kept] for each in products], true.shape[1])
        residual = true[kept] - strength.scale * estimated[kept]
        predicted[left] = strength.scale * estimated[left] + shared[left, kept] @ _solved(
            inner, strength.penalty, residual
        )
    return predicted


def best_scale(estimated: Tensor, true: Tensor) -> float:
    """s ≥ 0 with the smallest Σ (true - s · estimated)²; 1 where all estimates are zero.

    Args:
        estimated: any shape.
        true: of the same shape.
    """
    estimated, true = estimated.double(), true.double()
    return _ratio(float((estimated * true).sum()), float(estimated.square().sum()))


def _ratio(both: float, square: float) -> float:
    return max(0.0, both / square) if square > 0 else 1.0


def _products(estimated: Tensor, true: Tensor) -> list[Tensor]:
    """Inner products over the M columns, (R, R) each: of the truth, of estimates with it, of estimates."""
    return [true @ true.T, estimated @ true.T, estimated @ estimated.T]


def _chosen(shared: Tensor, products: list[Tensor], columns: int) -> Strength:
    """The best of the penalties, each with its best scale; of equals the strongest penalty."""
    unit = float(shared.diagonal().mean())
    tried = [_strength(shared, products, unit * each, columns) for each in reversed(_RELATIVE)]
    return min(tried, key=lambda each: each.error)


def _strength(shared: Tensor, products: list[Tensor], penalty: float, columns: int) -> Strength:
    """The best scale for a penalty, and the leave-one-out error with both."""
    squares = _left_out_operator(shared, penalty)
    squares = squares.T @ squares
    true, both, estimated = (float((squares * each).sum()) for each in products)
    scale = _ratio(both, estimated)
    error = true - 2 * scale * both + scale**2 * estimated
    return Strength(scale, penalty, max(0.0, error) / (len(shared) * columns))


def _left_out_operator(shared: Tensor, penalty: float) -> Tensor:
    """G, (R, R): applied to a residual it gives what each network left out is mispredicted by."""
    identity = torch.eye(len(shared), dtype=shared.dtype)
    if math.isinf(penalty):
        return identity
    inverse = torch.linalg.inv(shared + penalty * identity)
    errors: Tensor = inverse / inverse.diagonal()[:, None]
    return errors


def _solved(shared: Tensor, penalty: float, residual: Tensor) -> Tensor:
    """(D Dᵀ + λI)⁻¹ residual, zeros for an infinite λ."""
    if math.isinf(penalty):
        return torch.zeros_like(residual)
    weights: Tensor = torch.linalg.solve(shared + penalty * torch.eye(len(shared), dtype=shared.dtype), residual)
    return weights


def _checked(deleted: Tensor, estimated: Tensor, true: Tensor, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """All as float64 on the CPU."""
    if deleted.ndim != 2 or true.ndim != 2 or estimated.shape != true.shape or len(deleted) != len(true):
        shapes = ", ".join(str(tuple(each.shape)) for each in (deleted, estimated, true))
        raise ValueError(f"deleted, estimated and true must have shapes (R, K), (R, M) and (R, M); they are {shapes}")
    if len(true) < least:
        raise ValueError(f"at least {least} retrained networks are needed; there is {len(true)}")
    found = [each.detach().cpu().double() for each in (deleted, estimated, true)]
    if not all(bool(torch.isfinite(each).all()) for each in found):
        raise ValueError("deleted, estimated or true holds NaN or infinity")
    if not bool(found[0].any(1).all()):
        raise ValueError("a retrained network lacks no cluster, so it teaches nothing; leave it out")
    return found[0], found[1], found[2]
