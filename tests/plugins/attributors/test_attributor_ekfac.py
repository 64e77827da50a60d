"""Kronecker-factored influence functions against their definition, the explicit inverse Hessian, and retraining."""

from __future__ import annotations

import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ddm_attributors import ekfac, libraries
from known_runs import (
    CLASSES,
    DECAY,
    MARGIN,
    NUM_CLUSTERS,
    NUM_TRAIN,
    PIXELS,
    Regression,
    correlation,
    flat_of,
    regression,
    retrained_digits,
    workspace_of,
)
from torch import Tensor

from ddm_framework import DDMError
from ddm_framework.network.memory import Budget

OPTIONS: dict[str, Any] = {"strategy": "ekfac", "damping": 0.01, "fisher": "exact", "batch_size": 16}


@pytest.fixture(autouse=True)
def _kronfluence() -> None:
    pytest.importorskip("kronfluence", reason="the extra `compare` is not installed")


@cache
def undecided() -> Regression:
    """The regression at weights of zero: all predictions are alike, and the Hessian is a Kronecker product."""
    known = regression()
    zero = {name: torch.zeros_like(each) for name, each in known.workspace.target.items()}
    run = known.workspace
    return Regression(
        workspace_of(run.network, {0: zero}, run.data.train, run.partition, run.recipe.training), known.queries
    )


def attributed(known: Regression, **options: Any) -> Tensor:
    return ekfac.attribute(known.workspace, known.queries, MARGIN, **{**OPTIONS, **options})


def explained(known: Regression, matrix: Tensor) -> Tensor:
    """Effects (N, K) by definition, with any curvature matrix of the weights."""
    target = flat_of(known.workspace.target)
    moves = torch.linalg.solve(matrix, known.loss_gradients(target).T) / NUM_TRAIN
    return known.by_cluster(known.margin_gradients(target, known.queries) @ moves)


def by_definition(known: Regression, damping: float) -> Tensor:
    target = flat_of(known.workspace.target)
    return explained(known, known.hessian(target) + damping * torch.eye(len(target), dtype=torch.float64))


def curvature(known: Regression, strategy: str) -> Tensor:
    """What each strategy takes for the Fisher information, from the gradients of every label at every image."""
    data = known.workspace.data.train
    inputs = torch.cat([data.images.flatten(1), torch.ones(NUM_TRAIN, 1, dtype=torch.float64)], 1)
    probabilities = known.workspace.network(known.workspace.target, data.images).softmax(1)
    shares = probabilities / NUM_TRAIN
    outputs = torch.eye(CLASSES, dtype=torch.float64) - probabilities[:, None]
    left = torch.einsum("nc,nci,ncj->ij", shares, outputs, outputs)
    right = inputs.T @ inputs / NUM_TRAIN
    bases = torch.kron(torch.linalg.eigh(left).eigenvectors, torch.linalg.eigh(right).eigenvectors)
    gradients = torch.einsum("nci,nj->ncij", outputs, inputs).flatten(2)
    if strategy == "kfac":
        found = torch.kron(left, right)
    elif strategy == "diagonal":
        found = torch.einsum("nc,ncw->w", shares, gradients.square()).diag()
    else:
        found = bases @ torch.einsum("nc,ncw->w", shares, (gradients @ bases).square()).diag() @ bases.T
    # Kronfluence takes the bias for one more column of the weights; in the network it comes after them.
    order = torch.arange(CLASSES * (PIXELS + 1)).view(CLASSES, PIXELS + 1)
    order = torch.cat([order[:, :-1].flatten(), order[:, -1]])
    return found[order][:, order]


def damped(matrix: Tensor, damping: float) -> Tensor:
    return matrix + damping * torch.eye(len(matrix), dtype=torch.float64)


@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("strategy", ["ekfac", "kfac"])
def test_a_kronecker_product_is_inverted_exactly(strategy: str, damping: float) -> None:
    found = attributed(undecided(), strategy=strategy, damping=damping)
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:, :, 0], by_definition(undecided(), damping), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("strategy", ["ekfac", "kfac", "diagonal"])
def test_each_strategy_is_what_it_says(strategy: str) -> None:
    found = attributed(regression(), strategy=strategy, damping=0.01)[:, :, 0]
    wanted = explained(regression(), damped(curvature(regression(), strategy), 0.01 + DECAY))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("strategy", ["ekfac", "diagonal"])
def test_damping_may_be_a_share_of_the_mean_eigenvalue(strategy: str) -> None:
    matrix = curvature(regression(), strategy)
    found = attributed(regression(), strategy=strategy, damping=None)[:, :, 0]
    wanted = explained(regression(), damped(matrix, 0.1 * float(matrix.diag().mean())))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_a_trained_regression_comes_near_the_inverse_hessian() -> None:
    assert correlation(attributed(regression())[:, :, 0], by_definition(regression(), 0.01)) > 0.99


def test_drawn_labels_come_near_the_expectation_over_all() -> None:
    drawn, exact = attributed(regression(), fisher="sampled"), attributed(regression())
    assert correlation(drawn, exact) > 0.95
    assert not torch.equal(drawn, exact)


def test_neither_batches_nor_memory_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attributed(regression(), batch_size=600)
    torch.testing.assert_close(attributed(regression(), batch_size=7), whole, rtol=1e-8, atol=1e-10)
    monkeypatch.setattr(Budget, "items", lambda *_, **__: 3)
    torch.testing.assert_close(attributed(regression(), batch_size=2), whole, rtol=1e-8, atol=1e-10)


def test_effects_on_a_network_agree_with_retraining() -> None:
    workspace, queries, truth = retrained_digits()
    found = ekfac.attribute(workspace, queries, MARGIN, **{**OPTIONS, "damping": 0.1})[:, :, 0]
    assert correlation(found, truth) > 0.5


def test_the_same_seed_gives_the_same_effects() -> None:
    torch.manual_seed(5)
    first = attributed(regression(), fisher="sampled")
    torch.rand(3)
    assert torch.equal(attributed(regression(), fisher="sampled"), first)


def test_it_leaves_no_trace(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kronfluence.utils.state import State

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    random, level = torch.get_rng_state(), logging.getLogger().level
    attributed(regression(), fisher="sampled")
    assert torch.equal(torch.get_rng_state(), random)
    assert logging.getLogger().level == level
    assert not dict(State._shared_state)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_another_use_of_the_library_keeps_its_device() -> None:
    from kronfluence.utils.state import State

    theirs = State(cpu=True)
    theirs.device = torch.device("meta")
    try:
        attributed(regression())
        assert State(cpu=True).device == torch.device("meta")
    finally:
        State._reset_state()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    with pytest.raises(DDMError, match=r"attributor ekfac needs kronfluence; .*'ddm-framework\[compare\]'"):
        attributed(regression())
