"""Stacks are taken apart and put together, measured and scaled, network by network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ddm_framework.network.stacks import (
    Parameters,
    broadcast,
    concatenate,
    flat,
    is_finite,
    negative,
    norms,
    scaled,
    take,
)

if TYPE_CHECKING:
    from conftest import Toy


def test_stacks_are_taken_apart_and_put_together(toy: Toy, stack: Parameters) -> None:
    torch.testing.assert_close(take(stack, 2), toy.trajectory[2], rtol=0, atol=0)
    parts = [take(stack, slice(0, 2)), take(stack, torch.tensor([2])), take(stack, slice(3, 4))]
    torch.testing.assert_close(concatenate(parts), stack, rtol=0, atol=0)
    torch.testing.assert_close(
        flat(stack),
        torch.stack([torch.cat([each.flatten() for each in row.values()]) for row in toy.trajectory.values()]),
    )


def test_copies_of_a_network_share_no_memory(toy: Toy) -> None:
    before = {name: each.clone() for name, each in toy.initial.items()}
    copies = broadcast(toy.initial, 3)
    for each in copies.values():
        each[0] += 1
    torch.testing.assert_close(toy.initial, before, rtol=0, atol=0)
    torch.testing.assert_close(take(copies, 2), before, rtol=0, atol=0)


def test_norms_factors_and_the_reverse(stack: Parameters) -> None:
    torch.testing.assert_close(norms(stack), torch.linalg.vector_norm(flat(stack), dim=1))
    factors = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(flat(scaled(stack, factors)), factors[:, None] * flat(stack))
    torch.testing.assert_close(flat(negative(stack)), -flat(stack), rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_weight_that_is_not_finite_is_noticed(stack: Parameters, value: float) -> None:
    assert is_finite(stack)
    changed = {name: each.clone() for name, each in stack.items()}
    next(reversed(changed.values()))[-1, -1] = value
    assert not is_finite(changed)
