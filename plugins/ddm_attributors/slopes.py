"""The derivative of an objective with respect to the logits, a vector per query and behaviour, for linear methods."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ddm_framework import DDMError, Reference
from ddm_framework.online import Objective


def slopes(objective: Objective, logits: Tensor, reference: Reference) -> Tensor:
    """Derivative of each behaviour with respect to the logits.

    The inner product of the logits of a query with its slope has the same gradient as the behaviour. For a behaviour of
    a whole set, the gradient is the sum over its queries.

    Args:
        objective: with m behaviours.
        logits: (N, classes), of the network at which it is differentiated.
        reference: of the N queries.
    Returns:
        (m, N, classes), of the dtype of the logits.
    Raises:
        DDMError: if the objective has no gradient.
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        behaviours = objective.measure(leaf, reference)
        if not behaviours.requires_grad:
            raise DDMError(
                f"objective {objective.name!r} has no gradient, which a first-order attributor needs; let the "
                "objective name a surrogate"
            )
        return torch.stack([torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in behaviours.sum(0)])


def gathered(objective: Objective, effects: Iterable[Tensor]) -> Tensor:
    """Effects on single queries, (N, K) of each behaviour, as float64 (N, K, m), or (1, K, m) for a set."""
    effect = torch.stack([each.double() for each in effects], 2)
    return effect.sum(0, keepdim=True) if objective.declaration.set_level else effect
