"""Influence functions in a Krylov space against the explicit inverse Hessian and against retraining."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ddm_attributors import arnoldi, libraries
from known_runs import MARGIN, NUM_CLUSTERS, NUM_TRAIN, correlation, flat_of, regression, retrained_digits
from torch import Tensor

from ddm_framework import DDMError

# Ten distinct eigenvalues and the logits' common shift span eleven dimensions, and captum drops the last vector.
OPTIONS: dict[str, Any] = {
    "projection_dim": 100,
    "arnoldi_dim": 12,
    "damping": 0.01,
    "tolerance": 0.0,
    "images": NUM_TRAIN,
    "batch_size": 16,
}


@pytest.fixture(autouse=True)
def _captum() -> None:
    pytest.importorskip("captum", reason="the extra `compare` is not installed")


def attributed(**options: Any) -> Tensor:
    known = regression()
    return arnoldi.attribute(known.workspace, known.queries, MARGIN, **{**OPTIONS, **options})


def by_definition(damping: float, kept: int | None = None) -> Tensor:
    """With the inverse of the Hessian's largest eigenvalues alone, if not all are kept."""
    known = regression()
    target = flat_of(known.workspace.target)
    values, vectors = torch.linalg.eigh(known.hessian(target) + damping * torch.eye(len(target), dtype=torch.float64))
    values, vectors = (values, vectors) if kept is None else (values[-kept:], vectors[:, -kept:])
    moves = vectors @ (vectors.T @ known.loss_gradients(target).T / values[:, None]) / NUM_TRAIN
    return known.by_cluster(known.margin_gradients(target, known.queries) @ moves)


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
def test_a_whole_krylov_space_holds_the_inverse_hessian(damping: float) -> None:
    found = attributed(damping=damping)
    assert found.shape == (8, NUM_CLUSTERS, 1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:, :, 0], by_definition(damping), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kept", [1, 4])
def test_the_largest_eigenvalues_are_kept(kept: int) -> None:
    torch.testing.assert_close(
        attributed(projection_dim=kept)[:, :, 0], by_definition(0.01, kept), rtol=1e-5, atol=1e-8
    )


def test_batches_change_nothing() -> None:
    torch.testing.assert_close(attributed(batch_size=7), attributed(batch_size=60), rtol=1e-6, atol=1e-9)


def test_some_images_stand_for_all() -> None:
    assert correlation(attributed(images=40), attributed()) > 0.9
    scale = float(attributed(images=40).norm() / attributed().norm())
    assert 0.8 < scale < 1.25


def test_large_clusters_are_differentiated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attributed()
    monkeypatch.setattr("ddm_attributors.captum_examples.PART", 3)
    torch.testing.assert_close(attributed(), whole, rtol=1e-6, atol=1e-9)


def test_effects_on_a_network_agree_with_retraining() -> None:
    workspace, queries, truth = retrained_digits()
    options = {**OPTIONS, "projection_dim": 60, "arnoldi_dim": 100, "batch_size": 240}
    assert correlation(arnoldi.attribute(workspace, queries, MARGIN, **options)[:, :, 0], truth) > 0.5


def test_the_same_seed_gives_the_same_effects_and_leaves_no_trace(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = attributed(projection_dim=2, arnoldi_dim=4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(attributed(projection_dim=2, arnoldi_dim=4), first)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    with pytest.raises(DDMError, match=r"attributor arnoldi needs captum; .*'ddm-framework\[compare\]'"):
        attributed()
