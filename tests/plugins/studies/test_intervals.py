"""Intervals of repeated measurements cover as they say."""

from __future__ import annotations

import pytest
import torch
from ddm_studies.comparison.intervals import (
    binomial_interval,
    crossed_interval,
    mean_interval,
    median_interval,
    percent_interval,
    share_values,
)


@pytest.mark.parametrize(("count", "place"), [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6)])
def test_the_median_lies_between_values_of_tabled_places(count: int, place: int) -> None:
    values = [float(each) for each in reversed(range(1, count + 1))]
    assert median_interval(values) == (place, count + 1 - place)


def test_the_median_is_covered_as_often_as_is_said() -> None:
    random = torch.Generator().manual_seed(0)
    drawn = [median_interval(torch.rand(12, generator=random).tolist()) for _ in range(1000)]
    assert sum(low <= 0.5 <= high for low, high in drawn) > 940


def test_five_values_enclose_no_median() -> None:
    with pytest.raises(ValueError, match="the median of 5 values has no interval of 95%; six are needed"):
        median_interval([1.0, 2.0, 3.0, 4.0, 5.0])


def test_accuracies_have_intervals_between_none_and_all() -> None:
    high = torch.tensor([100.0, 100.0, 90.0])
    low, most = percent_interval(high)
    assert (low, most) == (mean_interval(high)[0], 100)
    assert percent_interval(100 - high) == (0, pytest.approx(100 - low))


def test_nothing_hit_still_leaves_a_bound() -> None:
    """Of none in n it has the closed form 1 - 0.025^(1/n)."""
    assert binomial_interval(0, 40) == (0, pytest.approx(1 - 0.025 ** (1 / 40)))
    assert binomial_interval(40, 40) == (pytest.approx(0.025 ** (1 / 40)), 1)


@pytest.mark.parametrize(("by_seed", "by_query"), [(1.0, 1.0), (0.0, 1.0), (0.3, 0.1), (1.0, 0.0)])
def test_an_interval_over_seeds_and_queries_covers_the_truth(by_seed: float, by_query: float) -> None:
    random = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(600):
        seeds, queries = (torch.randn(shape, generator=random).double() for shape in ((3, 1), (1, 40)))
        noise = torch.randn(3, 40, generator=random).double()
        low, high = crossed_interval(by_seed * seeds + by_query * queries + noise)
        covered += low <= 0 <= high
    assert covered / 600 > 0.92


def test_without_any_spread_the_interval_is_the_mean() -> None:
    assert crossed_interval(torch.full((3, 5), 2.0)) == (2.0, 2.0)


def test_contributions_of_queries_average_to_the_share_of_each_seed() -> None:
    random = torch.Generator().manual_seed(1)
    room = torch.rand(3, 50, generator=random).double() + 0.1
    gain = room * torch.rand(3, 50, generator=random).double()
    torch.testing.assert_close(share_values(gain, room).mean(1), gain.sum(1) / room.sum(1))
    exact = share_values(0.7 * room, room)
    torch.testing.assert_close(exact, torch.full_like(exact, 0.7))
