"""Intervals of repeated measurements cover as they say."""

from __future__ import annotations

import pytest
import torch
from ddm_studies.comparison.intervals import binomial_interval, mean_interval, median_interval, percent_interval


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
