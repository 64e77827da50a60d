"""The lead of the true (or else predicted) class, which first-order methods attribute."""

from __future__ import annotations

import torch
from torch import Tensor

from ddm_framework import Reference, objective


@objective(more_influential="smaller")
def margin(logits: Tensor, reference: Reference, /) -> Tensor:
    """Log odds of a class: its logit minus the log-sum-exp of the others; deleting data that support it lowers them.

    Args:
        logits: (N, classes), two classes or more.
        reference: its labels name the class; without labels, the prediction of the target does.
    Returns:
        (N, 1), in nats.
    Source: Park et al. 2023, TRAK Sec. 3.
    """
    classes = reference.labels if reference.labels is not None else reference.target_logits.argmax(1)
    own = logits.gather(1, classes[:, None])
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return own - torch.logsumexp(others, 1, keepdim=True)
