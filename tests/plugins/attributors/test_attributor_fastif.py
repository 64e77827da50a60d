"""FastIF against the explicit inverse Hessian, restricted to the nearest training images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import fastif
from known_runs import MARGIN, NUM_CLUSTERS, NUM_TRAIN, correlation, flat_of, regression, retrained_digits
from torch import Tensor

OPTIONS: dict[str, Any] = {
    "neighbours": NUM_TRAIN,
    "damping": 0.01,
    "rows": 4096,
    "depth": 300,
    "batch_size": 32,
    "repeats": 4,
}


@pytest.fixture(autouse=True)
def _dattri() -> None:
    pytest.importorskip("dattri", reason="the extra `compare` is not installed")


def attributed(**options: Any) -> Tensor:
    known = regression()
    return fastif.attribute(known.workspace, known.queries, MARGIN, **{**OPTIONS, **options})


def influence() -> Tensor:
    """(N, n) of each training image, with the damping of the options."""
    known = regression()
    target = flat_of(known.workspace.target)
    matrix = known.hessian(target) + 0.01 * torch.eye(len(target), dtype=torch.float64)
    moves = torch.linalg.solve(matrix, known.loss_gradients(target).T) / NUM_TRAIN
    return known.margin_gradients(target, known.queries) @ moves


def test_with_all_neighbours_it_is_an_influence_function() -> None:
    found, wanted = attributed(), regression().by_cluster(influence())
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    assert correlation(found, wanted) > 0.99
    assert float((found[:, :, 0] - wanted).norm() / wanted.norm()) < 0.25


def test_images_beyond_the_nearest_do_not_count() -> None:
    known = regression()
    # The penultimate features of a linear model are its pixels.
    pixels = known.workspace.data.train.images.flatten(1)
    near = torch.cdist(known.queries.images.flatten(1), pixels).argsort(1)[:, :7]
    kept = torch.zeros(len(known.queries), NUM_TRAIN, dtype=torch.float64).scatter_(1, near, 1.0)
    found, wanted = attributed(neighbours=7)[:, :, 0], known.by_cluster(kept * influence())
    assert correlation(found, wanted) > 0.99
    assert torch.equal(found == 0, wanted == 0)
    assert (found == 0).any()


def test_effects_on_a_network_agree_with_retraining() -> None:
    workspace, queries, truth = retrained_digits()
    options = {"neighbours": 100, "damping": 0.1, "rows": 500, "depth": 50, "batch_size": 8, "repeats": 1}
    assert correlation(fastif.attribute(workspace, queries, MARGIN, **options)[:, :, 0], truth) > 0.4


def test_the_same_seed_gives_the_same_effects_and_leaves_no_trace() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = attributed(depth=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(attributed(depth=5), first)
