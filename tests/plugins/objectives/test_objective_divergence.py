"""KL divergence from the target's prediction, by hand and by closed form."""

from __future__ import annotations

import math

import pytest
import torch
from ddm_objectives.divergence import divergence
from torch import Tensor

from ddm_framework import Reference


def test_hand_computed_value(unlabelled: Reference) -> None:
    """Target (1/2, 1/4, 1/4), network (1/4, 1/2, 1/4): 1/2 log 2 - 1/4 log 2."""
    target = torch.tensor([[math.log(2), 0.0, 0.0]], dtype=torch.float64)
    reference = Reference(unlabelled.images[:1], None, target, unlabelled.data)
    logits = torch.tensor([[0.0, math.log(2), 0.0]], dtype=torch.float64)
    assert divergence(logits, reference).item() == pytest.approx(math.log(2) / 4)


def test_it_is_the_cross_entropy_less_the_targets_entropy(logits: Tensor, unlabelled: Reference) -> None:
    target = unlabelled.target_logits.softmax(1)
    cross = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
    entropy = -(target * target.log()).sum(1, keepdim=True)
    found = divergence(logits, unlabelled)
    assert found.shape == (5, 1)
    torch.testing.assert_close(found, cross - entropy)
    assert (found > 0).all()


def test_the_target_itself_does_not_diverge_and_has_no_slope(unlabelled: Reference) -> None:
    logits = unlabelled.target_logits.clone().requires_grad_()
    found = divergence(logits, unlabelled)
    found.sum().backward()
    torch.testing.assert_close(found, torch.zeros_like(found))
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


def test_certain_predictions_stay_finite(unlabelled: Reference) -> None:
    certain = torch.tensor([[200.0, 0.0, 0.0]], dtype=torch.float64)
    reference = Reference(unlabelled.images[:1], None, certain, unlabelled.data)
    assert divergence(certain.roll(1, 1), reference).item() == pytest.approx(200)
    assert divergence(certain, reference).item() == 0
