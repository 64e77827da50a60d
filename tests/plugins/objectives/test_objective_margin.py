"""The margin is the log odds of a class."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from ddm_objectives.margin import margin
from torch import Tensor

from ddm_framework import Reference
from ddm_framework.plugin.declarations import Declaration


def test_hand_computed_value(labelled: Reference) -> None:
    """Probabilities (1/2, 1/3, 1/6) of label 0: even odds; of label 2: one to five."""
    logits = torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64).log()
    for label, odds in ((0, 1), (1, 1 / 2), (2, 1 / 5)):
        reference = dataclasses.replace(labelled, labels=torch.tensor([label]))
        assert margin(logits, reference).item() == pytest.approx(math.log(odds), abs=1e-15)


def test_is_the_log_odds_of_the_label(logits: Tensor, labelled: Reference) -> None:
    probability = logits.softmax(1).gather(1, labelled.labels[:, None])
    torch.testing.assert_close(margin(logits, labelled), (probability / (1 - probability)).log())


def test_without_labels_the_targets_prediction_names_the_class(logits: Tensor, unlabelled: Reference) -> None:
    predicted = unlabelled.target_logits.argmax(1)
    assert not torch.equal(predicted, logits.argmax(1))
    named = dataclasses.replace(unlabelled, labels=predicted)
    torch.testing.assert_close(margin(logits, unlabelled), margin(logits, named), rtol=0, atol=0)


def test_certainty_beyond_rounding_still_has_finite_odds(labelled: Reference) -> None:
    """1 - p is 0 in floating point long before the odds are infinite."""
    logits = torch.tensor([[200.0, 0.0, 0.0]])
    first = dataclasses.replace(labelled, labels=torch.tensor([0]))
    assert margin(logits, first).item() == pytest.approx(200 - math.log(2))
    assert margin(-logits, first).item() == pytest.approx(-200 - math.log(2))


def test_has_a_finite_slope(logits: Tensor, labelled: Reference) -> None:
    values = logits.clone().requires_grad_()
    margin(values, labelled).sum().backward()
    own = torch.zeros(5, 3).scatter(1, labelled.labels[:, None], 1).bool()
    assert (values.grad[own] == 1).all()
    torch.testing.assert_close(values.grad.sum(1), torch.zeros(5, dtype=torch.float64))


def test_declaration() -> None:
    assert margin.ddm_declaration == Declaration("smaller")


def test_the_prediction_may_be_asked_about_in_spite_of_labels(logits: Tensor, labelled: Reference) -> None:
    unlabelled = dataclasses.replace(labelled, labels=None)
    found = margin(logits, labelled, of="prediction")
    torch.testing.assert_close(found, margin(logits, unlabelled), rtol=0, atol=0)
    assert not torch.equal(found, margin(logits, labelled))
