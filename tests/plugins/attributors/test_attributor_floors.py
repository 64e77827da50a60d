"""Random effects: the seed decides, and nothing else that should not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import floors
from ddm_objectives.performance import performance
from ddm_objectives.predictions import predictions
from known_runs import MARGIN, NUM_CLUSTERS, Regression, regression

from ddm_framework.online.questions import declared
from ddm_framework.plugin.choice import Choice

PERFORMANCE = declared(
    Choice("objective", "performance", {"metric": "accuracy", "classes": None, "positive": None}, performance)
)


@pytest.fixture
def known() -> Regression:
    return regression()


@pytest.mark.parametrize(
    ("objective", "shape"),
    [
        (MARGIN, (8, NUM_CLUSTERS, 1)),
        (declared(Choice("objective", "predictions", {}, predictions)), (8, NUM_CLUSTERS, 3)),
        (PERFORMANCE, (1, NUM_CLUSTERS, 1)),
    ],
)
def test_any_objective_has_effects(known: Regression, objective: Any, shape: tuple[int, ...]) -> None:
    found = floors.random(known.workspace, known.queries, objective)
    assert found.shape == shape
    assert found.dtype == torch.float64
    assert torch.equal(found, floors.random(known.workspace, known.queries, objective))


def test_queries_may_be_asked_one_by_one(known: Regression) -> None:
    together = floors.random(known.workspace, known.queries, MARGIN)
    alone = [floors.random(known.workspace, known.queries.take(torch.tensor([i])), MARGIN) for i in range(8)]
    assert torch.equal(torch.cat(alone), together)
    assert len(together.unique()) == together.numel()


def test_it_leaves_the_global_state_alone(known: Regression) -> None:
    state = torch.get_rng_state()
    floors.random(known.workspace, known.queries, MARGIN)
    assert torch.equal(torch.get_rng_state(), state)
