"""Every class's probability is a behaviour."""

from __future__ import annotations

import math

import torch
from ddm_objectives.predictions import predictions
from torch import Tensor

from ddm_framework import Reference
from ddm_framework.plugin.declarations import Declaration


def test_hand_computed_value(unlabelled: Reference) -> None:
    logits = torch.tensor([[math.log(2), 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(predictions(logits, unlabelled), torch.tensor([[0.5, 0.25, 0.25]]).double())


def test_probabilities_of_every_query(logits: Tensor, unlabelled: Reference) -> None:
    found = predictions(logits, unlabelled)
    assert found.shape == (5, 3)
    torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(found.argmax(1), logits.argmax(1))


def test_declaration() -> None:
    assert predictions.ddm_declaration == Declaration("larger")
