"""Chunks hold everything once and fit the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_framework.network.memory import SECOND_ORDER, Budget, chunks

if TYPE_CHECKING:
    from conftest import Toy


@given(st.integers(0, 3000), st.integers(1, 500))
def test_chunks_hold_every_index_once_and_are_nearly_equal(total: int, size: int) -> None:
    parts = list(chunks(total, size))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))
    lengths = [part.stop - part.start for part in parts]
    assert all(1 <= length <= size for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


@given(st.integers(16, 10**5), st.integers(0, 10**9), st.integers(1, 1024))
def test_items_fit_the_memory_or_are_one(memory_mb: int, values: int, most: int) -> None:
    size = Budget(memory_mb).items(values, most)
    assert 1 <= size <= most
    assert size == 1 or 4 * values * size <= memory_mb * 2**20
    assert size == most or 4 * values * (size + 1) > memory_mb * 2**20


def test_a_cost_counts_weights_and_the_activations_of_every_image(toy: Toy) -> None:
    network = toy.network
    values = (6 + 2) * network.num_weights + 16 * 400 * network.activation_values
    assert Budget(16).fitting(network, SECOND_ORDER, images=400, kept=2) == 16 * 2**20 // (4 * values)


@pytest.mark.parametrize("memory_mb", [16, 64, 4096])
@pytest.mark.parametrize("total", [1, 2, 3, 65, 101, 129])
def test_chunks_hold_each_network_once(toy: Toy, memory_mb: int, total: int) -> None:
    parts = Budget(memory_mb).chunks(toy.network, total)
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))
