"""How unexpected the target's prediction is to another network."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ddm_framework import Reference, objective


@objective(more_influential="larger")
def measure(logits: Tensor, reference: Reference, /, *, unit: Literal["nats", "bits"] = "nats") -> Tensor:
    """Cross entropy of the class that the target predicts, whether it is the right one or not.

    Args:
        logits: (N, classes).
        reference: with the target's logits; labels are not needed.
        unit: of the result.
    Returns:
        (N, 1), at least 0.
    """
    nats = F.cross_entropy(logits, reference.target_logits.argmax(1), reduction="none")[:, None]
    return nats if unit == "nats" else nats / 0.6931471805599453
