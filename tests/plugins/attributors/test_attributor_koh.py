"""Influence functions against the explicit inverse Hessian and against retraining a convex model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import koh, libraries
from known_runs import DECAY, MARGIN, NUM_CLUSTERS, NUM_TRAIN, correlation, flat_of, regression, retrained_digits
from torch import Tensor

from ddm_framework import DDMError
from ddm_framework.network import Budget, curvature_rows

OPTIONS: dict[str, Any] = {
    "solver": "cg",
    "damping": 0.01,
    "rows": 4096,
    "iterations": 50,
    "depth": 300,
    "batch_size": 32,
    "repeats": 4,
}


@pytest.fixture(autouse=True)
def _dattri() -> None:
    pytest.importorskip("dattri", reason="the extra `compare` is not installed")


def attributed(**options: Any) -> Tensor:
    known = regression()
    return koh.attribute(known.workspace, known.queries, MARGIN, **{**OPTIONS, **options})


def by_definition(damping: float) -> Tensor:
    known = regression()
    target = flat_of(known.workspace.target)
    matrix = known.hessian(target) + damping * torch.eye(len(target), dtype=torch.float64)
    moves = torch.linalg.solve(matrix, known.loss_gradients(target).T) / NUM_TRAIN
    return known.by_cluster(known.margin_gradients(target, known.queries) @ moves)


@pytest.mark.parametrize("damping", [1e-3, 0.1, 30.0])
def test_conjugate_gradients_find_the_inverse_hessian(damping: float) -> None:
    found = attributed(damping=damping)
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:, :, 0], by_definition(damping), rtol=1e-6, atol=1e-9)


def test_more_iterations_than_needed_do_no_harm() -> None:
    torch.testing.assert_close(attributed(iterations=500)[:, :, 0], by_definition(0.01), rtol=1e-6, atol=1e-9)


def test_lissa_comes_near_the_inverse_hessian() -> None:
    found = attributed(solver="lissa")[:, :, 0]
    wanted = by_definition(0.01)
    assert correlation(found, wanted) > 0.99
    assert float((found - wanted).norm() / wanted.norm()) < 0.25


def test_effects_foretell_retraining_of_a_convex_model() -> None:
    known = regression()
    everything = torch.ones(NUM_TRAIN, dtype=torch.float64)
    before = known.margins(known.optimum(everything), known.queries)
    clusters = known.workspace.partition.clusters
    changes = [
        known.margins(known.optimum((clusters != k).double()), known.queries) - before for k in range(NUM_CLUSTERS)
    ]
    found, truth = attributed(damping=1e-6)[:, :, 0], torch.stack(changes, 1)
    assert correlation(found, truth) > 0.97


def test_drawn_rows_are_right_in_the_mean() -> None:
    known, total = regression(), 0.0
    network, target, images = known.workspace.network, known.workspace.target, known.workspace.data.train.images
    for seed in range(400):
        rows = curvature_rows(network, target, images, 40, Budget(64), torch.Generator().manual_seed(seed))
        assert len(rows) == 40
        total = total + rows.T @ rows / 400
    wanted = known.hessian(flat_of(target)) - DECAY * torch.eye(rows.shape[1], dtype=torch.float64)
    assert float((total - wanted).norm() / wanted.norm()) < 0.05


@pytest.mark.parametrize("solver", ["cg", "lissa"])
def test_effects_on_a_network_agree_with_retraining(solver: str) -> None:
    workspace, queries, truth = retrained_digits()
    options = {**OPTIONS, "solver": solver, "damping": 0.1, "rows": 1000, "depth": 50, "repeats": 1}
    assert correlation(koh.attribute(workspace, queries, MARGIN, **options)[:, :, 0], truth) > 0.5


def test_the_same_seed_gives_the_same_effects_and_leaves_no_trace() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = attributed(solver="lissa", depth=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(attributed(solver="lissa", depth=5), first)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    with pytest.raises(DDMError, match=r"attributor koh needs dattri; .*'ddm-framework\[compare\]'"):
        attributed()
