"""Amounts are probabilities by the log odds of what the network says."""

from __future__ import annotations

import pytest
import torch

from ddm_framework.online.amounts import amounts_from, log_odds


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 3, 2])
    chance = logits.double().softmax(2)[:, torch.arange(3), classes]
    torch.testing.assert_close(log_odds(logits, classes), torch.log(chance / (1 - chance)))


def test_log_odds_of_a_sure_prediction_are_finite() -> None:
    assert float(log_odds(torch.tensor([[200.0, 0.0]]), torch.tensor([0]))[0]) == pytest.approx(200)


def test_ends_lie_on_either_side_and_within_0_and_1() -> None:
    odds, change = torch.tensor([3.0, -1.0]).double(), torch.tensor([[-4.0, 0.5], [0.0, 9.0]]).double()
    half, retrained = torch.tensor([[1.0, 50.0], [2.0, 2.0]]).double(), torch.tensor([False, False])
    found = amounts_from(odds, change, half, retrained, 0.9)
    torch.testing.assert_close(found.before, odds.sigmoid())
    torch.testing.assert_close(found.without, (odds[:, None] + change).sigmoid())
    assert bool(((found.low < found.without) & (found.without < found.high)).all())
    assert bool(((found.low >= 0) & (found.high <= 1)).all())


def test_what_was_retrained_has_no_interval() -> None:
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    found = amounts_from(zeros[:, 0], zeros - 1, zeros + 1, torch.tensor([True, False]), 0.9)
    assert float(found.low[0, 0]) == float(found.high[0, 0]) == float(found.without[0, 0])
    assert float(found.low[0, 1]) < float(found.high[0, 1])
