"""A figure survives the way to `metrics.json` and back."""

from __future__ import annotations

import json

import pytest
import torch
from ddm_studies.comparison.measured import Measured, bootstrapped, in_words
from ddm_studies.comparison.paper import outcome_of_all, standing

from ddm_framework.truth import bootstrap_interval


@pytest.mark.parametrize("figure", [Measured(0.5, (0.25, 0.75)), Measured(1.0), Measured(None)])
def test_metrics_are_read_back(figure: Measured) -> None:
    written = json.loads(json.dumps(figure.metrics("lds")))
    assert list(written) == ["lds", "lds_interval"]
    assert Measured.read(written, "lds") == figure


def test_a_figure_without_an_interval_in_the_file_has_none() -> None:
    assert Measured.read({"lds": 0.5}, "lds") == Measured(0.5)


def test_the_mean_has_its_bootstrap_interval() -> None:
    values = torch.arange(20).double()
    found = bootstrapped(values, torch.Generator().manual_seed(1), resamples=100)
    assert found == (9.5, bootstrap_interval(values, torch.Generator().manual_seed(1), resamples=100))


def test_a_figure_is_said_with_its_interval_where_it_has_one() -> None:
    assert Measured(0.5, (0.25, 0.754)).words(".2f") == "0.50 (0.25 to 0.75)"
    assert Measured(0.5).words(".0%") == "50%"
    assert in_words({"lds": 0.5, "lds_interval": [-0.1, 1]}, "lds", "+.1f") == "+0.5 (-0.1 to +1.0)"


def test_the_outcome_of_a_figure_without_an_interval_is_not_told() -> None:
    assert Measured(0.5, (0.25, 0.75)).outcome() == "holds"
    assert Measured(0.5, (0.25, 0.75)).outcome(1) == "does not hold"
    assert Measured(0.5, (0.25, 0.75)).outcome(0.5) == Measured(0.5).outcome() == "not told"


def test_one_clear_loss_refutes_a_claim_of_several_figures() -> None:
    assert outcome_of_all(["holds", "holds"]) == "holds"
    assert outcome_of_all(["holds", "not told"]) == "not told"
    assert outcome_of_all(["holds", "does not hold", "not told"]) == "does not hold"


def test_rivals_are_told_by_their_outcome_losses_first() -> None:
    told = standing([("holds", "a"), ("not told", "b"), ("does not hold", "c"), ("holds", "d")])
    assert told == ["clearly behind c", "clearly ahead of a and d", "not told from b"]
    assert standing([]) == []
