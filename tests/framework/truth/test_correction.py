"""A correction by retrainings is a Bayesian linear regression around the estimate, chosen by leaving out for real."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddm_framework.truth.correction import Strength, best_scale, choose_strength, correct, left_out

Case = tuple[Tensor, Tensor, Tensor]


def case(seed: int, networks: int = 12, clusters: int = 20, columns: int = 15) -> Case:
    """Deleted clusters, estimates and a truth that is 0.7 of them, plus effects of clusters and noise."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
    deleted = (torch.rand(networks, clusters, generator=random) < 0.3).double()
    deleted[:, 0] = 1
    estimated = draw(networks, columns)
    return deleted, estimated, 0.7 * estimated + deleted @ draw(clusters, columns) * 0.3 + 0.2 * draw(networks, columns)


def refitted(deleted: Tensor, estimated: Tensor, true: Tensor, scale: float, penalty: float) -> Tensor:
    """Errors of each network, predicted by a ridge regression on the others that is solved over the clusters."""
    errors = torch.empty_like(true)
    for left in range(len(true)):
        rows = [each for each in range(len(true)) if each != left]
        normal = deleted[rows].T @ deleted[rows] + penalty * torch.eye(deleted.shape[1], dtype=torch.float64)
        fitted = torch.linalg.solve(normal, deleted[rows].T @ (true[rows] - scale * estimated[rows]))
        errors[left] = true[left] - scale * estimated[left] - deleted[left] @ fitted
    return errors


@pytest.mark.parametrize("seed", range(4))
def test_its_error_is_that_of_fitting_again_without_each_network(seed: int) -> None:
    deleted, estimated, true = case(seed)
    found = choose_strength(deleted, estimated, true)
    assert math.isfinite(found.penalty)
    errors = refitted(deleted, estimated, true, found.scale, found.penalty)
    assert found.error == pytest.approx(float(errors.square().mean()), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_scale_and_no_penalty_of_the_grid_has_a_smaller_error(seed: int) -> None:
    deleted, estimated, true = case(seed)
    found = choose_strength(deleted, estimated, true)
    unit = float((deleted @ deleted.T).diagonal().mean())
    for penalty in (unit * 10.0 ** (each / 4) for each in range(-12, 13)):
        for scale in (found.scale - 0.01, found.scale, found.scale + 0.01, 0.0, 1.0):
            assert float(refitted(deleted, estimated, true, scale, penalty).square().mean()) >= found.error - 1e-12


def test_coefficients_are_those_of_the_formula_and_of_the_posterior_mean() -> None:
    deleted, estimated, true = case(0)
    found = correct(deleted, estimated, true, Strength(0.6, 2.5, 0.0))
    residual = true - 0.6 * estimated
    inverse = torch.linalg.inv(deleted @ deleted.T + 2.5 * torch.eye(len(true), dtype=torch.float64))
    torch.testing.assert_close(found.coefficients, deleted.T @ inverse @ residual)
    # The same from the clusters' side: prior N(0, τ²), noise N(0, σ²), λ = σ² / τ².
    normal = deleted.T @ deleted + 2.5 * torch.eye(deleted.shape[1], dtype=torch.float64)
    torch.testing.assert_close(found.coefficients, torch.linalg.solve(normal, deleted.T @ residual))
    other = torch.eye(deleted.shape[1])[:3]
    torch.testing.assert_close(found.apply(other, estimated[:3]), 0.6 * estimated[:3] + found.coefficients[:3])


@pytest.mark.parametrize("seed", range(3))
def test_nested_predictions_are_those_of_choosing_and_fitting_without_the_network(seed: int) -> None:
    deleted, estimated, true = case(seed)
    found = left_out(deleted, estimated, true)
    for left in range(len(true)):
        rows = torch.tensor([each for each in range(len(true)) if each != left])
        others = correct(deleted[rows], estimated[rows], true[rows])
        alone = slice(left, left + 1)
        torch.testing.assert_close(found[left], others.apply(deleted[alone], estimated[alone])[0])


def test_what_a_network_did_has_no_say_in_its_own_prediction() -> None:
    deleted, estimated, true = case(5)
    changed = true.clone()
    changed[3] += 100
    torch.testing.assert_close(left_out(deleted, estimated, true)[3], left_out(deleted, estimated, changed)[3])


def test_planted_scale_and_effects_are_found() -> None:
    random = torch.Generator().manual_seed(0)
    deleted = (torch.rand(60, 10, generator=random) < 0.2).double()
    deleted[:, 0] = 1
    estimated = torch.randn(60, 300, generator=random, dtype=torch.float64)
    effects = torch.randn(10, 300, generator=random, dtype=torch.float64)
    noise = 0.01 * torch.randn(60, 300, generator=random, dtype=torch.float64)
    found = correct(deleted, estimated, 1.3 * estimated + deleted @ effects + noise)
    assert found.strength.scale == pytest.approx(1.3, abs=0.005)
    torch.testing.assert_close(found.coefficients, effects, atol=0.05, rtol=0.05)


def test_an_estimate_that_is_right_is_left_alone() -> None:
    deleted, estimated, _ = case(1)
    found = correct(deleted, estimated, estimated)
    assert found.strength == Strength(1.0, math.inf, 0.0)
    assert not found.coefficients.any()
    torch.testing.assert_close(found.apply(deleted, estimated), estimated)
    torch.testing.assert_close(left_out(deleted, estimated, estimated), estimated)


def test_an_estimate_that_says_the_opposite_is_not_turned_round() -> None:
    deleted, estimated, _ = case(2)
    assert choose_strength(deleted, estimated, -estimated).scale == 0
    assert best_scale(estimated, -estimated) == 0


def test_noise_about_a_right_estimate_is_not_learned() -> None:
    deleted, estimated, _ = case(3, networks=20, columns=400)
    random = torch.Generator().manual_seed(1)
    noise = torch.randn(20, 400, generator=random, dtype=torch.float64)
    found = choose_strength(deleted, 3 * estimated, 3 * estimated + noise)
    assert found.scale == pytest.approx(1, abs=0.05)
    assert found.penalty > 100


def test_without_any_estimate_it_is_an_ordinary_datamodel() -> None:
    deleted, estimated, true = case(4)
    found = correct(deleted, torch.zeros_like(estimated), true)
    assert found.strength.scale == 1
    normal = deleted.T @ deleted + found.strength.penalty * torch.eye(20, dtype=torch.float64)
    torch.testing.assert_close(found.coefficients, torch.linalg.solve(normal, deleted.T @ true))


def test_the_unit_of_the_changes_does_not_matter() -> None:
    deleted, estimated, true = case(6)
    one, other = correct(deleted, estimated, true), correct(deleted, 50 * estimated, 50 * true)
    assert one.strength.penalty == other.strength.penalty
    assert one.strength.scale == pytest.approx(other.strength.scale)
    torch.testing.assert_close(50 * one.coefficients, other.coefficients)


def test_what_cannot_be_fitted_is_refused() -> None:
    deleted, estimated, true = case(0)
    with pytest.raises(ValueError, match=r"\(R, K\), \(R, M\) and \(R, M\)"):
        choose_strength(deleted, estimated[:5], true)
    with pytest.raises(ValueError, match="at least 3"):
        left_out(deleted[:2], estimated[:2], true[:2])
    with pytest.raises(ValueError, match="NaN or infinity"):
        correct(deleted, estimated, true.clone().fill_(math.nan))
    with pytest.raises(ValueError, match="lacks no cluster"):
        correct(torch.zeros_like(deleted), estimated, true)
