"""The recursion for nearest-neighbour Shapley values against their definition over all subsets."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import pytest
import torch
from ddm_attributors import shapley
from known_runs import MARGIN, NUM_CLUSTERS, correlation, retrained_digits
from torch import Tensor


def worth(members: tuple[int, ...], distances: Tensor, agrees: Tensor, neighbours: int) -> float:
    nearest = sorted(members, key=lambda each: float(distances[each]))[:neighbours]
    return sum(float(agrees[each]) for each in nearest) / neighbours


@pytest.mark.parametrize("neighbours", [1, 2, 3, 8])
def test_values_are_mean_gains_over_all_orders(neighbours: int) -> None:
    random = torch.Generator().manual_seed(neighbours)
    distances, agrees = torch.rand(2, 6, generator=random), (torch.rand(2, 6, generator=random) < 0.5).double()
    found = shapley.shapley_values(distances, agrees, neighbours)
    for query in range(2):
        gains = torch.zeros(6, dtype=torch.float64)
        for order in permutations(range(6)):
            for place, each in enumerate(order):
                after = worth(order[: place + 1], distances[query], agrees[query], neighbours)
                gains[each] += after - worth(order[:place], distances[query], agrees[query], neighbours)
        torch.testing.assert_close(found[query], gains / factorial(6))


def test_a_cluster_that_agrees_and_lies_near_is_worth_most() -> None:
    workspace, queries, truth = retrained_digits()
    found = shapley.attribute(workspace, queries, MARGIN, neighbours=10)
    assert found.shape == (40, len(truth.T), 1)
    assert found.shape[1] != NUM_CLUSTERS
    assert correlation(found[:, :, 0], truth) > 0.2
