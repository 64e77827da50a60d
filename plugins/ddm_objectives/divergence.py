"""Divergence of a prediction from that of the target, as in distillation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ddm_framework import Reference, Surrogate, objective


@objective(more_influential="larger", surrogate=Surrogate("margin", "smaller", {"of": "prediction"}))
def divergence(logits: Tensor, reference: Reference, /) -> Tensor:
    """KL divergence KL(target ‖ network) of the predicted probabilities, in nats.

    If the reference holds the logits of a teacher instead of the target, this is the second term of the distillation
    loss of a student.

    Args:
        logits: (N, classes).
        reference: with the target's logits.
    Returns:
        (N, 1), at least 0; 0 for the target itself.
    Source: Eq. 15, Sec. 9.3, summed over a set as in Eq. 14; Hinton et al. 2015 for the order of the two.
    """
    own, target = logits.log_softmax(1), reference.target_logits.log_softmax(1)
    return F.kl_div(own, target, reduction="none", log_target=True).sum(1, keepdim=True)
