"""Chunks hold everything once, fit the memory, and are never of one network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_framework.network.memory import chunk_size, chunks, network_chunks

if TYPE_CHECKING:
    from conftest import Toy


@given(st.integers(0, 3000), st.integers(1, 500))
def test_chunks_hold_every_index_once_and_never_one_alone(total: int, size: int) -> None:
    parts = list(chunks(total, size))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))
    lengths = [part.stop - part.start for part in parts]
    assert all(length >= min(2, total) for length in lengths)
    assert all(length <= max(size, 3) for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


def test_chunks_of_nothing_and_of_one() -> None:
    assert list(chunks(0, 8)) == []
    assert list(chunks(1, 8)) == [slice(0, 1)]
    assert list(chunks(3, 1)) == [slice(0, 3)]


@given(st.integers(16, 10**5), st.integers(0, 10**9), st.integers(1, 1024))
def test_chunk_size_fits_the_memory_or_is_one(memory_mb: int, values: int, most: int) -> None:
    size = chunk_size(memory_mb, values, most)
    assert 1 <= size <= most
    assert size == 1 or 4 * values * size <= memory_mb * 2**20
    assert size == most or 4 * values * (size + 1) > memory_mb * 2**20


@pytest.mark.parametrize("memory_mb", [16, 64, 4096])
@pytest.mark.parametrize("total", [1, 2, 3, 65, 101, 129])
def test_chunks_hold_each_network_once_and_never_one_alone(toy: Toy, memory_mb: int, total: int) -> None:
    parts = network_chunks(toy.network, total, memory_mb)
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))
    assert min(part.stop - part.start for part in parts) >= min(2, total)
