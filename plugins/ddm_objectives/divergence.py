"""How far a prediction goes from the target's, as distillation measures it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ddm_framework import Reference, Surrogate, objective


@objective(more_influential="larger", surrogate=Surrogate("margin", "smaller"))
def divergence(logits: Tensor, reference: Reference, /) -> Tensor:
    """KL divergence KL(target ‖ network) of the predicted probabilities, in nats.

    Where the reference holds a teacher's logits instead of the target's, this is the second term of the loss that
    a student is distilled by.

    Args:
        logits: (N, classes).
        reference: with the target's logits.
    Returns:
        (N, 1), at least 0; 0 for the target itself.
    Source: Eq. 15, Sec. 9.3, summed over a set as in Eq. 14; Hinton et al. 2015 for the order of the two.
    """
    own, target = logits.log_softmax(1), reference.target_logits.log_softmax(1)
    return F.kl_div(own, target, reduction="none", log_target=True).sum(1, keepdim=True)
