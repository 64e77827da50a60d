"""Clusters that made the network say this, and clusters that spoke against it, whatever objective is asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddm_framework import Run
from ddm_framework.online import Attribution, declared, nearly_tied, sides
from ddm_framework.plugin import Choice
from ddm_framework.plugin.declarations import Direction, objective


def planted(effect: list[float], support: list[float] | None, direction: Direction = "larger") -> Attribution:
    @objective(more_influential=direction)
    def measure(logits: Tensor, _reference: object, /) -> Tensor:
        return logits[:, :1]

    chosen = declared(Choice("objective", "planted", {}, measure))
    zero = torch.zeros(1, 1, dtype=torch.float64)
    signs = None if support is None else torch.tensor([support], dtype=torch.float64)
    return Attribution(chosen, -torch.tensor(effect).double()[None, :, None], zero, zero, signs)


def test_sides_are_told_apart_by_the_sign_and_ordered_by_size() -> None:
    found = sides(planted([0.1, -0.9, 0.5, -0.2, 0.3], [1, 1, -1, -1, 0]), 0)
    assert found is not None
    assert found.made == [1, 0]
    assert found.against == [2, 3]


def test_a_distance_orders_them_although_it_has_no_sign() -> None:
    found = sides(planted([0.1, 0.9, 0.5, 0.2], [1, -1, 1, -1]), 0)
    assert found is not None
    assert (found.made, found.against) == ([2, 0], [1, 3])


def test_where_the_least_effect_counts_most_its_order_is_kept() -> None:
    found = sides(planted([0.1, -0.9, 0.5, -0.2], [1, 1, 1, -1], "nearest_zero"), 0)
    assert found is not None
    assert (found.made, found.against) == ([0, 2, 1], [3])


def test_without_a_sign_there_are_no_sides() -> None:
    assert sides(planted([0.1, 0.2], None), 0) is None


@pytest.mark.parametrize(("effect", "tied"), [([1.0, 0.95], True), ([0.95, 1.0], True), ([1.0, 0.5], False)])
def test_near_ties(effect: list[float], tied: bool) -> None:
    assert nearly_tied(planted(effect, [1, 1]), 0, [0, 1]) == tied
    assert not nearly_tied(planted(effect, [1, 1]), 0, [0])


def test_every_objective_tells_the_same_sides(run: Run) -> None:
    workspace = run.workspace
    queries, found = workspace.queries_of("test"), []
    for name in ("output_shift", "correctness", "margin"):
        attribution = workspace.attribution(queries, workspace.objective(name))
        each = [sides(attribution, query) for query in range(len(queries))]
        found.append([(set(side.made), set(side.against)) for side in each if side is not None])
        assert len(found[-1]) == len(queries)
    assert found[0] == found[1] == found[2]


def test_a_side_is_that_of_the_predicted_classs_probability(run: Run) -> None:
    workspace = run.workspace
    queries = workspace.queries_of("test")
    support = workspace.attribution(queries, workspace.objectives[0]).support
    predicted = workspace.target_logits(queries.images).argmax(1).cpu()
    matrix = workspace.prediction_matrix(queries, range(len(queries)))
    assert support is not None
    torch.testing.assert_close(support, matrix[torch.arange(len(queries)), :, predicted])


@pytest.mark.parametrize(("name", "sign"), [("margin", 1), ("correctness", -1), ("output_shift", 0)])
def test_the_slope_of_an_objective_says_what_speaks_for_the_prediction(run: Run, name: str, sign: int) -> None:
    workspace = run.workspace
    queries = workspace.queries_of("test")
    reference = workspace.reference(queries)
    assert queries.labels is not None
    right = (reference.target_logits.argmax(1) == queries.labels).cpu()
    slope = workspace.objective(name).slope(reference)
    assert right.any()
    assert (slope[right].sign() == sign).all()
