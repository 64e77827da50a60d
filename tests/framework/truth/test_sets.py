"""What a method says of whole sets, and how much of the true effects it explains: closed forms."""

from __future__ import annotations

import pytest
import torch

from ddm_framework.truth import explained, explained_interval, set_lds, set_lds_interval


def test_the_order_of_the_networks_counts_and_nothing_else() -> None:
    behaviours = torch.tensor([[1.0, 1.0, 5.0], [2.0, 3.0, 5.0], [4.0, 2.0, 5.0]])  # (R, N)
    effect = torch.tensor([[-3.0, 0.0, 100.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])  # (N, R)
    torch.testing.assert_close(set_lds(effect, behaviours), torch.tensor([1.0, -0.5, 0.0]).double())
    low, high = set_lds_interval(effect, behaviours, torch.Generator().manual_seed(0))
    assert -1 <= low <= high <= 1


@pytest.mark.parametrize(("factor", "wanted"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.75), (2.0, 0.0), (-1.0, -3.0)])
def test_a_scale_that_is_off_costs_its_square(factor: float, wanted: float) -> None:
    true = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert explained(factor * true, true) == pytest.approx(wanted, abs=1e-6)
    low, high = explained_interval(factor * true, true, torch.Generator().manual_seed(0), resamples=200)
    assert low == pytest.approx(wanted, abs=1e-6)
    assert high == pytest.approx(wanted, abs=1e-6)


def test_errors_are_summed_over_queries_and_clusters() -> None:
    true, found = torch.tensor([[1.0, 2.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert explained(found, true) == pytest.approx(1 - (1 + 4) / (1 + 4 + 4))


def test_nothing_can_be_explained_of_zeros() -> None:
    with pytest.raises(ValueError, match="all true effects are zero"):
        explained(torch.ones(2, 2), torch.zeros(2, 2))
