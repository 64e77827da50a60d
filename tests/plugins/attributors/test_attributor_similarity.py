"""Likeness of predictions and of features, and that every objective ranks the likest cluster where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from ddm_attributors import similarity
from ddm_objectives.performance import performance
from ddm_objectives.predictions import predictions
from known_runs import MARGIN, NUM_CLUSTERS, regression, retrained_digits
from torch import Tensor

from ddm_framework.online.questions import declared
from ddm_framework.plugin.choice import Choice
from ddm_framework.plugin.declarations import Declaration, Surrogate

Method = Callable[..., Tensor]
METHODS = [similarity.prediction, similarity.clustering]


def nearest_to_farthest(method: Method) -> Tensor:
    """Clusters of the regression's run by plain loops over queries and clusters, (N, K)."""
    known = regression()
    network, target, train = known.workspace.network, known.workspace.target, known.workspace.data.train

    def seen(images: Tensor) -> Tensor:
        return network(target, images).softmax(1) if method is similarity.prediction else images.flatten(1)

    centres = [seen(train.images[known.workspace.partition.members(k)]).mean(0) for k in range(NUM_CLUSTERS)]
    distances = [[float((query - centre).norm()) for centre in centres] for query in seen(known.queries.images)]
    return torch.tensor(distances).argsort(1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sought", ["larger", "smaller", "nearest_zero"])
@pytest.mark.parametrize("first", ["most_similar", "least_similar"])
def test_the_objective_ranks_by_likeness(
    method: Method, sought: Literal["larger", "smaller", "nearest_zero"], first: str
) -> None:
    known, objective = regression(), replace(MARGIN, sought=sought)
    found = method(known.workspace, known.queries, objective, first=first)
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    wanted = nearest_to_farthest(method)
    assert torch.equal(objective.ranking(found), wanted if first == "most_similar" else wanted.flip(1))


@pytest.mark.parametrize("method", METHODS)
def test_likeness_has_no_unit(method: Method) -> None:
    known = regression()
    found = method(known.workspace, known.queries, replace(MARGIN, sought="larger"))
    assert 0 < float(found.min()) < float(found.max()) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_a_set_has_the_mean_likeness(method: Method) -> None:
    known = regression()
    options = {"metric": "loss", "classes": None, "positive": None}
    whole = method(known.workspace, known.queries, declared(Choice("objective", "performance", options, performance)))
    single = method(known.workspace, known.queries, replace(MARGIN, sought="larger"))
    assert whole.shape == (1, NUM_CLUSTERS, 1)
    torch.testing.assert_close(whole, single.mean(0, keepdim=True))


@pytest.mark.parametrize("method", METHODS)
def test_all_behaviours_have_the_same_effects(method: Method) -> None:
    known = regression()
    found = method(known.workspace, known.queries, declared(Choice("objective", "predictions", {}, predictions)))
    assert found.shape == (8, NUM_CLUSTERS, 3)
    assert torch.equal(found[:, :, :1].expand(-1, -1, 3), found)


@pytest.mark.parametrize("method", METHODS)
def test_likeness_foretells_retraining_of_a_network(method: Method) -> None:
    workspace, queries, truth = retrained_digits()
    found = method(workspace, queries, MARGIN)[:, :, 0]
    chosen = truth.gather(1, MARGIN.ranking(found[:, :, None])[:, :1])
    assert float(chosen.mean()) < 5 * float(truth.mean()) < 0


@pytest.mark.parametrize("method", METHODS)
def test_an_objective_that_seeks_the_least_influential_gets_the_least_similar(method: Method) -> None:
    known = regression()
    least = Declaration("larger", surrogate=Surrogate("margin", "nearest_zero"))
    objective = replace(MARGIN, declaration=least, sought=None)
    found = method(known.workspace, known.queries, objective)
    assert torch.equal(objective.ranking(found), nearest_to_farthest(method).flip(1))
