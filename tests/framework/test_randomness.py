"""Seeds derive from the recipe's seed and a purpose, and from nothing else."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from ddm_framework.randomness import derive_seed, generator

PURPOSES = st.lists(st.one_of(st.integers(0, 10**6), st.text(max_size=8)), max_size=3)


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert derive_seed(0, "order", 3) == 8483304753239185838
    assert derive_seed(0) == 5254295370254170289


@given(st.integers(0, 2**63), PURPOSES)
def test_seeds_are_what_torch_takes(seed: int, purpose: list[int | str]) -> None:
    derived = derive_seed(seed, *purpose)
    assert 0 <= derived < 2**63
    assert generator(seed, *purpose).initial_seed() == derived


@given(st.integers(0, 99), st.integers(0, 99), PURPOSES, PURPOSES)
def test_other_purposes_have_other_seeds(one: int, other: int, purpose: list[int | str], aim: list[int | str]) -> None:
    same = one == other and purpose == aim
    assert (derive_seed(one, *purpose) == derive_seed(other, *aim)) == same


def test_a_number_is_not_its_digits_and_parts_do_not_run_together() -> None:
    seeds = [derive_seed(0, *purpose) for purpose in ((1,), ("1",), ("a", "b"), ("ab",), ("a, b",), (1, 2), (12,))]
    assert all(one != other for one, other in itertools.combinations(seeds, 2))


def test_drawing_leaves_the_global_state_alone() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    first, second = (torch.rand(3, generator=generator(0, "purpose")) for _ in range(2))
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(first, second)
