"""The derivative of every behaviour with respect to the logits, and what cannot be differentiated."""

from __future__ import annotations

import pytest
import torch
from ddm_attributors.slopes import gathered, slopes
from ddm_objectives.performance import performance
from ddm_objectives.predictions import predictions
from known_runs import MARGIN, regression
from torch.func import jacrev

from ddm_framework import DDMError
from ddm_framework.online.questions import EVERY_LOGIT, declared
from ddm_framework.plugin.choice import Choice


def test_each_behaviour_has_its_own_slopes() -> None:
    known = regression()
    reference = known.workspace.reference(known.queries)
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = slopes(declared(Choice("objective", "predictions", {}, predictions)), logits, reference)
    wanted = torch.stack([jacrev(lambda row: row.softmax(0))(row) for row in logits], 1)
    torch.testing.assert_close(found, wanted)
    assert slopes(MARGIN, logits, reference).shape == (1, 8, 3)


def test_an_objective_without_a_gradient_is_refused() -> None:
    known = regression()
    options = {"metric": "accuracy", "classes": None, "positive": None}
    asked = declared(Choice("objective", "performance", options, performance))
    with pytest.raises(DDMError, match="'performance' has no gradient"):
        slopes(asked, torch.zeros(8, 3), known.workspace.reference(known.queries))


def test_effects_of_a_set_are_those_of_its_queries_together() -> None:
    parts = [torch.arange(6.0).view(2, 3), torch.ones(2, 3)]
    assert gathered(EVERY_LOGIT, parts).shape == (2, 3, 2)
    whole = declared(Choice("objective", "performance", {"metric": "loss"}, performance))
    assert gathered(whole, parts).tolist() == [[[3, 2], [5, 2], [7, 2]]]
