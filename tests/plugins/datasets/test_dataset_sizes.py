"""Stratified draws: exactly as many as asked for, each class in proportion, the same ones every time."""

from __future__ import annotations

import pytest
import torch
from ddm_datasets.sizes import positions

from ddm_framework.data.splits import subset
from ddm_framework.errors import DataError

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.randperm(100, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize("size", [1, 2, 7, 33, 99, 100])
def test_size_is_exact_and_positions_are_sorted_and_distinct(size: int) -> None:
    drawn = subset(LABELS, size, seed=0)
    assert drawn.dtype == torch.int64
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert len(drawn) == size


def test_each_class_is_within_one_of_its_share() -> None:
    for size in range(1, 101):
        counts = LABELS[subset(LABELS, size, seed=3)].bincount(minlength=3)
        shares = LABELS.bincount() * size / 100
        assert ((counts - shares).abs() < 1).all()


def test_largest_remainders_get_the_samples_left_over() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 1)  # of 5: 3, 1.5 and 0.5; the tie goes to the lower label
    assert labels[subset(labels, 5, seed=0)].bincount(minlength=3).tolist() == [3, 2, 0]


def test_draw_depends_on_the_seed_and_leaves_the_global_generator_alone() -> None:
    first = subset(LABELS, 40, seed=5)
    state = torch.random.get_rng_state()
    assert torch.equal(first, subset(LABELS, 40, seed=5))
    assert not torch.equal(first, subset(LABELS, 40, seed=6))
    assert torch.equal(state, torch.random.get_rng_state())


def test_labels_need_not_start_at_zero() -> None:
    assert LABELS[subset(LABELS + 7, 10, seed=0)].bincount().tolist() == [5, 3, 2]


@pytest.mark.parametrize("size", [0, -1, 101])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"cannot take {size} of 100 samples; ask for 1 to 100"):
        subset(LABELS, size, seed=0)


def test_no_size_keeps_everything() -> None:
    assert torch.equal(positions(LABELS, None, "train_size"), torch.arange(100))


def test_error_names_the_option() -> None:
    with pytest.raises(DataError, match="`test_size: 101`: cannot take 101 of 100 samples"):
        positions(LABELS, 101, "test_size")
