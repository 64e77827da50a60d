"""Which checkpoints are matched with which (Eq. 6, Alg. 1)."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddm_framework.errors import DDMError
from ddm_framework.offline.pairing import Pair, possible_pairs
from ddm_framework.recipe.settings import Matching

Pairing = Literal["offset", "mirror", "final"]


@pytest.mark.parametrize(
    ("pairing", "step_length", "wanted"),
    [
        ("offset", 2, [(0, 2), (1, 3), (2, 4)]),
        ("offset", 4, [(0, 4)]),
        ("offset", 0, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]),
        ("mirror", 9, [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0)]),
        ("final", 9, [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]),
    ],
)
def test_pairs_of_a_trajectory_saved_every_epoch(pairing: Pairing, step_length: int, wanted: list[Pair]) -> None:
    assert possible_pairs(range(5), Matching(pairing=pairing, step_length=step_length)) == wanted


@pytest.mark.parametrize(
    ("pairing", "step_length", "wanted"),
    [
        ("offset", 4, [(0, 4), (4, 8)]),
        ("offset", 2, [(8, 10)]),
        ("mirror", 4, [(0, 10), (10, 0)]),
        ("final", 4, [(0, 10), (4, 10), (8, 10), (10, 10)]),
    ],
)
def test_pairs_of_a_trajectory_with_gaps(pairing: Pairing, step_length: int, wanted: list[Pair]) -> None:
    assert possible_pairs([0, 4, 8, 10], Matching(pairing=pairing, step_length=step_length)) == wanted


@given(st.sets(st.integers(1, 40), min_size=1), st.sampled_from(["offset", "mirror", "final"]), st.integers(0, 6))
def test_pairs_are_distinct_saved_and_related_as_the_pairing_says(
    later: set[int], pairing: Pairing, step_length: int
) -> None:
    epochs = [0, *sorted(later)]
    settings = Matching(pairing=pairing, step_length=step_length)
    relation = {
        "offset": lambda real, synthetic: synthetic - real == step_length,
        "mirror": lambda real, synthetic: synthetic + real == epochs[-1],
        "final": lambda real, synthetic: synthetic == epochs[-1],
    }[pairing]
    wanted = [(real, synthetic) for real in epochs for synthetic in epochs if relation(real, synthetic)]
    if wanted:
        assert possible_pairs(epochs, settings) == wanted
    else:
        with pytest.raises(DDMError):
            possible_pairs(epochs, settings)


def test_no_pair_is_an_error_with_both_settings_to_change() -> None:
    wanted = (
        r"no two of the saved epochs \[0, 5, 10\] form a pair for pairing 'offset' with step_length 4; "
        r"change matching\.step_length or training\.checkpoint_every"
    )
    with pytest.raises(DDMError, match=wanted):
        possible_pairs([0, 5, 10], Matching())
