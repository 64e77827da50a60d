"""Behaviours of a network that can be attributed: on single queries (Eq. 10) and on whole sets (Eq. 14)."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_objectives() -> Iterator[Component]:
    """The paper's distances, margins, predictions, and performance on a set."""
    yield Component(
        "output_shift", "ddm_objectives.distances:output_shift", "Dist_1: how far the prediction moves", "Eq. 10"
    )
    yield Component(
        "correctness", "ddm_objectives.distances:correctness", "Dist_2: cross entropy of the true label", "Eq. 10"
    )
    yield Component(
        "stability", "ddm_objectives.distances:stability", "Dist_3: 1 / (1 + Dist_1), for the least", "Eq. 10"
    )
    yield Component("margin", "ddm_objectives.margin:margin", "Logit of the true class over the best other one")
    yield Component(
        "predictions", "ddm_objectives.predictions:predictions", "Every class's probability, for heat maps", "Eq. 8"
    )
    yield Component(
        "divergence", "ddm_objectives.divergence:divergence", "KL divergence from the target's prediction", "Eq. 15"
    )
    yield Component(
        "performance", "ddm_objectives.performance:performance", "Loss, accuracy, F1 ... of a set", "Eq. 14, Sec. 3.1"
    )
