"""The paper's three influence distances (Eq. 10), measured on probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ddm_framework import Reference, Surrogate, objective


@objective(more_influential="larger", surrogate=Surrogate("margin", "smaller", {"of": "prediction"}))
def output_shift(logits: Tensor, reference: Reference, /) -> Tensor:
    """Squared distance of the predicted probabilities from the target's: Dist_1.

    Args:
        logits: (N, classes).
        reference: with the target's logits.
    Returns:
        (N, 1), between 0 and 2; 0 for the target itself.
    Source: Eq. 10, taken on probabilities, because logits have no common scale.
    """
    return (logits.softmax(1) - reference.target_logits.softmax(1)).square().sum(1, keepdim=True)


@objective(more_influential="larger", surrogate=Surrogate("margin", "smaller"), needs_labels=True)
def correctness(logits: Tensor, reference: Reference, /) -> Tensor:
    """Cross entropy of the true label, in nats: Dist_2.

    Args:
        logits: (N, classes).
        reference: with labels.
    Returns:
        (N, 1), at least 0.
    Source: Eq. 10.
    """
    assert reference.labels is not None
    return F.cross_entropy(logits, reference.labels, reduction="none")[:, None]


@objective(more_influential="larger", surrogate=Surrogate("margin", "nearest_zero", {"of": "prediction"}))
def stability(logits: Tensor, reference: Reference, /) -> Tensor:
    """1 / (1 + Dist_1), largest if the prediction does not change: Dist_3 looks for the least influential cluster.

    Args:
        logits: (N, classes).
        reference: with the target's logits.
    Returns:
        (N, 1), in (0, 1]; 1 for the target itself.
    Source: Eq. 10.
    """
    return 1 / (1 + output_shift(logits, reference))
