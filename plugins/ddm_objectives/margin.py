"""The lead of the true (or else predicted) class, which first-order methods attribute."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ddm_framework import Reference, objective


@objective(more_influential="smaller")
def margin(logits: Tensor, reference: Reference, /, *, of: Literal["label", "prediction"] = "label") -> Tensor:
    """Log odds of a class: its logit minus the log-sum-exp of the others; deleting data that support it lowers them.

    Args:
        logits: (N, classes), two classes or more.
        reference: with the target's logits, and the labels if there are any.
        of: whose log odds: those of the `label`, or of the target's `prediction`, which also stands in for labels that
            are unknown. Queries that the target misreads tell the two apart: only the prediction's margin says how far
            an output moves.
    Returns:
        (N, 1), in nats.
    Source: Park et al. 2023, TRAK Sec. 3.
    """
    classes = reference.labels if of == "label" else None
    if classes is None:
        classes = reference.target_logits.argmax(1)
    own = logits.gather(1, classes[:, None])
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return own - torch.logsumexp(others, 1, keepdim=True)
