"""Intervals hold what they promise where errors grow with the effect, and say so where they cannot."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddm_framework.truth.spread import Spread, conformal_quantile, fit_spread


def effects(seed: int, queries: int = 300, clusters: int = 6, sizes: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Estimates of very different sizes, a truth whose error grows with them, and the largest as those that matter."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(queries, clusters, generator=random, dtype=torch.float64)  # noqa: E731
    estimated = draw() * torch.exp(1.5 * draw()) * sizes
    true = estimated + draw() * (0.05**2 * sizes**2 + (0.3 * estimated) ** 2).sqrt()
    return estimated, true, estimated.abs() > estimated.abs().quantile(0.9)


def test_the_quantile_is_the_smallest_score_that_covers_one_more() -> None:
    scores = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    assert conformal_quantile(scores, 0.9) == 9  # the ninth of ten
    assert conformal_quantile(scores, 0.5) == 5
    assert conformal_quantile(scores[:2], 0.9) == 5  # two cannot promise more than their largest


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_intervals_of_other_effects_of_the_kind_hold_the_truth(level: float) -> None:
    estimated, true, matters = effects(0)
    spread = fit_spread(estimated, true, matters, level)
    others, truth, _ = effects(1)
    held = (truth - others).abs() <= spread.half_width(others)
    assert level - 0.02 <= held.double().mean() <= level + 0.06  # rather too wide than too narrow
    for rows in (others.abs() < 0.2, others.abs() > 2):  # for small and for large effects alike
        assert level - 0.06 <= held[rows].double().mean() <= level + 0.1


def test_small_effects_have_small_intervals() -> None:
    spread = fit_spread(*effects(2))
    narrow, wide = spread.half_width(torch.tensor([0.01, 10.0], dtype=torch.float64)).tolist()
    assert narrow < 0.2
    assert wide == pytest.approx(10 * 1.645 * 0.3, rel=0.2)


def test_the_half_width_is_the_wider_of_the_two() -> None:
    spread = Spread(0.3, 0.4, 2.0, 0.9)
    sizes = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(spread.half_width(sizes), torch.tensor([0.3, 2.0, 2.0], dtype=torch.float64))
    alone = Spread(0.3, 0.4, 0.0, 0.9)
    assert float(alone.half_width(sizes)[1]) == pytest.approx(0.5)


def test_clusters_that_matter_widen_it_where_their_errors_are_larger() -> None:
    estimated, true, matters = effects(3)
    worse = torch.where(matters, estimated * 3, true)
    assert fit_spread(estimated, worse, matters).near == pytest.approx(2.0)  # the same for all, so without error
    few = torch.zeros_like(matters)
    assert fit_spread(estimated, worse, few).near == 0


def test_the_largest_errors_of_those_that_matter_decide() -> None:
    estimated = torch.ones(50, 4, dtype=torch.float64)
    errors = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).expand(50, 4)
    assert fit_spread(estimated, estimated + errors, torch.ones(50, 4, dtype=torch.bool)).near == pytest.approx(0.4)
    assert fit_spread(estimated, estimated + errors, errors < 0.35).near == pytest.approx(0.3)


def test_the_unit_does_not_matter() -> None:
    one, other = fit_spread(*effects(4)), fit_spread(*effects(4, sizes=100.0))
    assert other.floor == pytest.approx(100 * one.floor)
    assert other.slope == pytest.approx(one.slope)
    assert other.near == pytest.approx(one.near)


def test_estimates_without_any_error_have_no_interval() -> None:
    estimated, _, matters = effects(5)
    assert not fit_spread(estimated, estimated, matters).half_width(estimated).any()


def test_what_cannot_be_fitted_is_refused() -> None:
    estimated, true, matters = effects(6)
    with pytest.raises(ValueError, match="must have one shape"):
        fit_spread(estimated, true[:5], matters)
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_spread(estimated * math.nan, true, matters)
