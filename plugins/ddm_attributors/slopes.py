"""An objective as its derivative by the logits: what first-order methods need of it, one vector a query."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework import DDMError, Reference
from ddm_framework.online import Objective


def slopes(objective: Objective, logits: Tensor, reference: Reference) -> Tensor:
    """Derivative of the behaviour by the logits.

    The inner product of a query's logits with its slope has the gradient of the behaviour by the weights, and it is a
    sum over queries also where the behaviour is that of the whole set.

    Args:
        objective: with one behaviour (m = 1).
        logits: (N, classes), of the network at which it is differentiated.
        reference: of the N queries.
    Returns:
        (N, classes), of the logits' type.
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
    """Effects of single queries (N, K) as the objective's own, float64: (N, K, 1), or (1, K, 1) of the whole set."""
    rows = effect.double().sum(0, keepdim=True) if objective.declaration.set_level else effect.double()
    return rows[:, :, None]
