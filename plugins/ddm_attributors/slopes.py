"""The derivative of an objective with respect to the logits, one vector per query, for first-order methods."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework import DDMError, Reference
from ddm_framework.online import Objective


def slopes(objective: Objective, logits: Tensor, reference: Reference) -> Tensor:
    """Derivative of the behaviour with respect to the logits.

    The inner product of the logits of a query with its slope has the same gradient as the behaviour. For a behaviour of
    a whole set, the gradient is the sum over its queries.

    Args:
        objective: with one behaviour (m = 1).
        logits: (N, classes), of the network at which it is differentiated.
        reference: of the N queries.
    Returns:
        (N, classes), of the dtype of the logits.
    Raises:
        DDMError: if the objective has no gradient, or several behaviours.
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        behaviours = objective.measure(leaf, reference)
        if behaviours.shape[1] > 1:
            raise DDMError(
                f"objective {objective.name!r} has {behaviours.shape[1]} behaviours; a first-order attributor takes one"
            )
        if not behaviours.requires_grad:
            raise DDMError(
                f"objective {objective.name!r} has no gradient, which a first-order attributor needs; let the "
                "objective name a surrogate"
            )
        return torch.autograd.grad(behaviours.sum(), leaf)[0]


def gathered(objective: Objective, effect: Tensor) -> Tensor:
    """Effects on single queries (N, K) as effects of the objective, float64 (N, K, 1), or (1, K, 1) for a set."""
    rows = effect.double().sum(0, keepdim=True) if objective.declaration.set_level else effect.double()
    return rows[:, :, None]
