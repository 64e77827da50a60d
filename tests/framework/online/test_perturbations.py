"""Perturbation designs: what is deleted in which row, which designs determine W, and the weights β."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ddm_framework.errors import DDMError
from ddm_framework.online.perturbations import (
    beta_weights,
    check_determined,
    design,
    leave_one_out,
    random_perturbations,
)
from ddm_framework.recipe.settings import Online


@given(st.integers(1, 40))
def test_leave_one_out_is_the_unperturbed_row_and_one_deletion_a_row(num_clusters: int) -> None:
    rows = leave_one_out(num_clusters)
    assert rows.shape == (num_clusters + 1, num_clusters)
    assert rows[0].tolist() == [1] * num_clusters
    assert ((rows == 0) | (rows == 1)).all()
    assert torch.equal(1 - rows[1:], torch.eye(num_clusters))
    check_determined(rows)


def test_random_rows_keep_each_cluster_by_chance() -> None:
    rows = random_perturbations(50, 4000, 0.8, torch.Generator().manual_seed(0))
    assert rows.shape == (4001, 50)
    assert rows[0].tolist() == [1] * 50
    assert rows.unique().tolist() == [0, 1]
    assert abs(rows[1:].mean() - 0.8) < 0.005
    assert (rows[1:].mean(0) - 0.8).abs().max() < 0.03
    assert (rows[1:].T.corrcoef() - torch.eye(50)).abs().max() < 0.09


def test_a_recipe_that_asks_for_nothing_gets_leave_one_out() -> None:
    assert torch.equal(design(7, Online(), 0), leave_one_out(7))


def test_random_design_has_twice_as_many_rows_as_clusters_beside_the_unperturbed_one() -> None:
    rows = design(20, Online(perturbations="random"), 0)
    assert rows.shape == (41, 20)
    assert rows[0].all()
    assert design(20, Online(perturbations="random", num_perturbations=99), 0).shape == (100, 20)


def test_random_design_is_drawn_from_the_seed() -> None:
    online = Online(perturbations="random", num_perturbations=60)
    first = design(20, online, 0)
    torch.manual_seed(9)
    assert torch.equal(design(20, online, 0), first)
    assert not torch.equal(design(20, online, 1), first)


def test_undetermined_design_is_refused_with_the_advice() -> None:
    wanted = (
        r"11 perturbations of 20 clusters have rank 11 and cannot determine 21 unknowns; "
        r"set online\.num_perturbations to 40 or more, or online\.ridge above 0"
    )
    with pytest.raises(DDMError, match=wanted):
        design(20, Online(perturbations="random", num_perturbations=10), 0)
    assert len(design(20, Online(perturbations="random", num_perturbations=10, ridge=1e-3), 0)) == 11


def test_leave_one_out_without_the_unperturbed_row_is_undetermined() -> None:
    with pytest.raises(DDMError, match="6 perturbations of 6 clusters have rank 6 and cannot determine 7 unknowns"):
        check_determined(leave_one_out(6)[1:])


def test_a_cluster_that_is_never_deleted_is_undetermined() -> None:
    rows = random_perturbations(5, 100, 0.5, torch.Generator().manual_seed(0))
    check_determined(rows)
    rows[:, 2] = 1
    with pytest.raises(DDMError, match="have rank 5 and cannot determine 6 unknowns"):
        check_determined(rows)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 3))
@examples(max_examples=50)
def test_weights_are_one_or_fall_with_the_number_of_deleted_clusters(num_clusters: int, count: int, seed: int) -> None:
    rows = random_perturbations(num_clusters, count, 0.5, torch.Generator().manual_seed(seed))
    deleted = torch.tensor([sum(value == 0 for value in row) for row in rows.tolist()], dtype=torch.float64)
    assert torch.equal(beta_weights(rows, "uniform"), torch.ones(count + 1, dtype=torch.float64))
    assert torch.equal(beta_weights(rows, "inverse"), 1 / (1 + deleted))
