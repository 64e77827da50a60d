"""Pixels of two splits, given in the same way or in two: the same images give the same pixels, or are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddm_framework import DataError
from ddm_framework.data.given import as_pixels

WHOLE = torch.arange(2 * 3 * 16, dtype=torch.uint8).view(2, 3, 4, 4)
SHARES = WHOLE.float() / 255


@pytest.mark.parametrize(("train", "test"), [(WHOLE, SHARES), (SHARES, WHOLE), (SHARES, SHARES)])
@pytest.mark.parametrize("normalised", [(None, None), ([0.5], [0.25])])
def test_a_split_of_uint8_and_one_of_floats_are_the_same_images(
    train: Tensor, test: Tensor, normalised: tuple[list[float] | None, list[float] | None]
) -> None:
    first, second, mean, std, notes = as_pixels(train, test, *normalised)
    assert torch.equal(first, SHARES) and torch.equal(second, SHARES)
    given = [0.5] * 3, [0.25] * 3
    assert (mean, std) == (given if normalised[0] else ([0.0] * 3, [1.0] * 3))
    assert notes == []


def test_two_splits_of_uint8_stay_so() -> None:
    first, second, *_ = as_pixels(WHOLE, WHOLE, None, None)
    assert first is WHOLE and second is WHOLE


@pytest.mark.parametrize("floats", [SHARES * 255, SHARES * 2 - 1, SHARES * torch.nan])
@pytest.mark.parametrize("first", [True, False])
def test_floats_that_are_no_shares_do_not_go_with_uint8(floats: Tensor, first: bool) -> None:
    with pytest.raises(DataError, match=r"one split is uint8.*outside \[0, 1\]; give both in the same way"):
        as_pixels(*((floats, WHOLE) if first else (WHOLE, floats)), None, None)


def test_an_empty_split_goes_with_any() -> None:
    first, second, *_ = as_pixels(WHOLE, SHARES[:0], None, None)
    assert torch.equal(first, SHARES) and len(second) == 0
