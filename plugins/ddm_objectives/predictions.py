"""The probability of every class, for the attribution matrix of the paper with one column per label."""

from __future__ import annotations

from torch import Tensor

from ddm_framework import Reference, objective


@objective(more_influential="larger")
def predictions(logits: Tensor, reference: Reference, /) -> Tensor:  # noqa: ARG001
    """Predicted probabilities.

    Args:
        logits: (N, classes).
        reference: unused.
    Returns:
        (N, classes); with several behaviours clusters cannot be ranked, so W is for display.
    Source: Eq. 7, 8: W has a row for each of the labels' confidence scores.
    """
    return logits.softmax(1)
