"""Eq. 8: a planted W is recovered, and leave-one-out gives the direct differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.online.attribution import fit_attribution
from ddm_framework.online.perturbations import beta_weights, leave_one_out, random_perturbations


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_rows(num_clusters: int, count: int, seed: int = 0) -> Tensor:
    return random_perturbations(num_clusters, count, 0.5, torch.Generator().manual_seed(seed))


def ridge_by_normal_equations(rows: Tensor, behaviours: Tensor, weights: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """argmin Σ β (y - W p - b)² + ridge ||W||², the intercept b unpenalised."""
    design = torch.cat([rows.double(), torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    penalty = ridge * torch.eye(len(design.T), dtype=torch.float64)
    penalty[-1, -1] = 0
    squares = design.T @ (weights[:, None] * design) + penalty
    found = torch.linalg.solve(squares, design.T @ (weights[:, None] * behaviours.flatten(1)))
    found = found.unflatten(1, behaviours.shape[1:])
    return found[:-1].transpose(0, 1), found[-1]


@pytest.mark.parametrize(
    "rows", [leave_one_out(6), random_rows(6, 40), random_rows(6, 12)], ids=["leave-one-out", "random", "few"]
)
@pytest.mark.parametrize("beta", ["uniform", "inverse"])
def test_planted_matrix_is_recovered(rows: Tensor, beta: str) -> None:
    matrix, intercept = normal(5, 6, 3, seed=0), normal(5, 3, seed=1)
    behaviours = torch.einsum("pk,nkm->pnm", rows.double(), matrix) + intercept
    found, constant = fit_attribution(rows, behaviours, beta_weights(rows, beta))
    torch.testing.assert_close(found, matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(constant, intercept, rtol=0, atol=1e-12)


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8), st.integers(0, 10**6))
@examples(max_examples=40, deadline=None)
def test_leave_one_out_gives_the_direct_differences_at_any_weights(exponents: list[float], seed: int) -> None:
    rows, weights = leave_one_out(7), 10 ** torch.tensor(exponents, dtype=torch.float64)
    behaviours = normal(8, 4, 2, seed=seed)
    matrix, intercept = fit_attribution(rows, behaviours, weights)
    torch.testing.assert_close(-matrix, (behaviours[1:] - behaviours[0]).transpose(0, 1), rtol=0, atol=1e-10)
    torch.testing.assert_close(intercept + matrix.sum(1), behaviours[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 2.0])
@pytest.mark.parametrize("beta", ["uniform", "inverse"])
def test_noisy_behaviours_give_the_closed_form(ridge: float, beta: str) -> None:
    rows, behaviours = random_rows(6, 30), normal(31, 4, 2, seed=2)
    weights = beta_weights(rows, beta)
    wanted, constant = ridge_by_normal_equations(rows, behaviours, weights, ridge)
    matrix, intercept = fit_attribution(rows, behaviours, weights, ridge)
    torch.testing.assert_close(matrix, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(intercept, constant, rtol=0, atol=1e-12)


def test_weight_counts_as_so_many_equal_rows() -> None:
    rows, behaviours = random_rows(4, 20), normal(21, 3, 1, seed=3)
    times = torch.arange(21) % 3 + 1
    weighted = fit_attribution(rows, behaviours, times.double())
    repeated = fit_attribution(rows.repeat_interleave(times, 0), behaviours.repeat_interleave(times, 0), torch.ones(42))
    torch.testing.assert_close(weighted, repeated, rtol=0, atol=1e-12)


def test_ridge_settles_an_undetermined_design() -> None:
    rows, behaviours = random_rows(10, 5), normal(6, 2, 1, seed=4)
    weights = beta_weights(rows, "uniform")
    with pytest.raises(DDMError, match=r"set online\.num_perturbations to 20 or more, or online\.ridge above 0"):
        fit_attribution(rows, behaviours, weights)
    wanted, _ = ridge_by_normal_equations(rows, behaviours, weights, 0.1)
    torch.testing.assert_close(fit_attribution(rows, behaviours, weights, 0.1)[0], wanted, rtol=0, atol=1e-12)


def test_queries_and_behaviours_do_not_mix() -> None:
    rows, behaviours = random_rows(6, 30), normal(31, 4, 3, seed=5)
    weights = beta_weights(rows, "uniform")
    together, _ = fit_attribution(rows, behaviours, weights)
    for query in range(4):
        for each in range(3):
            alone, _ = fit_attribution(rows, behaviours[:, query : query + 1, each : each + 1], weights)
            torch.testing.assert_close(together[query, :, each], alone[0, :, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_queries", "num_behaviours"), [(1, 1), (1, 3), (4, 1), (4, 3)])
def test_shapes_and_precision(num_queries: int, num_behaviours: int) -> None:
    behaviours = normal(8, num_queries, num_behaviours, seed=6).float()
    matrix, intercept = fit_attribution(leave_one_out(7), behaviours, torch.ones(8))
    assert matrix.shape == (num_queries, 7, num_behaviours)
    assert intercept.shape == (num_queries, num_behaviours)
    assert matrix.dtype == intercept.dtype == torch.float64


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_behaviour_that_is_not_finite_is_refused(value: float) -> None:
    behaviours = normal(8, 2, 1, seed=7)
    behaviours[3, 1, 0] = value
    wanted = r"returned NaN or infinity for a perturbed network; lower online\.step_size, or fix the objective"
    with pytest.raises(DDMError, match=wanted):
        fit_attribution(leave_one_out(7), behaviours, torch.ones(8))
