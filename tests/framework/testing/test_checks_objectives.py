"""Each check of objectives catches one that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checked import assert_all_pass, assert_caught, result
from torch import Tensor

from ddm_framework import Reference, Surrogate, objective
from ddm_framework.testing.checks import CHECKS

Measure = Callable[..., Tensor]
larger = objective(more_influential="larger")


@larger
def entropy(logits: Tensor, reference: Reference, /) -> Tensor:
    """How unsure it is."""
    return torch.distributions.Categorical(logits=logits).entropy()[:, None]


@objective(more_influential="larger", set_level=True, needs_labels=True)
def loss(logits: Tensor, reference: Reference, /) -> Tensor:
    """Of the whole set."""
    return F.cross_entropy(logits, reference.labels).reshape(1, 1)


@objective(more_influential="upwards")  # type: ignore[arg-type]
def without_direction(logits: Tensor, reference: Reference, /) -> Tensor:
    """Sought is nothing that exists."""
    return entropy(logits, reference)


@larger
def flat(logits: Tensor, reference: Reference, /) -> Tensor:
    """No second dimension."""
    return entropy(logits, reference)[:, 0]


@larger
def of_several(logits: Tensor, reference: Reference, /) -> Tensor:
    """NaN for a single query."""
    spread = logits.std(0).mean()
    return entropy(logits, reference) + 0 * spread


@larger
def labelled_without_saying(logits: Tensor, reference: Reference, /) -> Tensor:
    """Fails by accident where labels are missing."""
    return F.cross_entropy(logits, reference.labels, reduction="none")[:, None]


@larger
def centred(logits: Tensor, reference: Reference, /) -> Tensor:
    """Depends on the other queries."""
    return entropy(logits, reference) - entropy(logits, reference).mean()


@larger
def noisy(logits: Tensor, reference: Reference, /) -> Tensor:
    """Another value every time."""
    return entropy(logits, reference) + torch.rand(len(logits), 1)


@larger
def in_place(logits: Tensor, reference: Reference, /) -> Tensor:
    """Writes to the logits."""
    with torch.no_grad():
        logits -= 1
    return entropy(logits, reference)


@objective(more_influential="larger", surrogate=Surrogate("no_such_objective", "smaller"))
def with_a_lost_surrogate(logits: Tensor, reference: Reference, /) -> Tensor:
    """Names what is not there."""
    return entropy(logits, reference)


@larger
def shift(logits: Tensor, reference: Reference, /) -> Tensor:
    """At its minimum at the target."""
    return (logits.softmax(1) - reference.target_logits.softmax(1)).square().sum(1, keepdim=True)


@larger
def half_detached(logits: Tensor, reference: Reference, /) -> Tensor:
    """A gradient that is not its own."""
    return entropy(logits, reference) - 2 * entropy(logits.detach(), reference)


@larger
def rounded(logits: Tensor, reference: Reference, /) -> Tensor:
    """No gradient at all."""
    return logits.argmax(1, keepdim=True).float()


@larger
def halved_gradient(logits: Tensor, reference: Reference, /) -> Tensor:
    """Its gradient is half of what it should be."""
    value = entropy(logits, reference)
    return (value + value.detach()) / 2


BROKEN: dict[str, Measure] = {
    "check_declares_its_direction": without_direction,
    "check_behaviours_have_a_row_for_each_query": flat,
    "check_one_query": of_several,
    "check_works_without_labels_or_says_so": labelled_without_saying,
    "check_each_query_by_itself": centred,
    "check_same_twice": noisy,
    "check_leaves_global_randomness_alone": noisy,
    "check_arguments_stay_as_they_are": in_place,
    "check_surrogate_can_take_its_place": with_a_lost_surrogate,
    "check_has_a_gradient_or_a_surrogate": shift,
}


@pytest.mark.parametrize("check", BROKEN)
def test_what_is_broken_is_caught(check: str) -> None:
    assert_caught("objective", check, BROKEN[check])


def test_a_gradient_of_another_function_is_caught() -> None:
    assert_caught("objective", "check_has_a_gradient_or_a_surrogate", halved_gradient)


def test_an_objective_without_a_gradient_is_skipped_with_the_reason() -> None:
    found = result("objective", "check_has_a_gradient_or_a_surrogate", rounded)
    assert found.outcome == "skipped"
    assert "no gradient and names no surrogate" in found.message


def test_what_is_not_declared_is_told_how_to() -> None:
    def undeclared(logits: Any, reference: Any, /) -> Tensor:
        """No decorator."""
        return entropy(logits, reference)

    found = result("objective", "check_declares_its_direction", undeclared)
    assert found.outcome == "failed"
    assert "@objective(more_influential=...)" in found.message


def test_plain_ones_pass() -> None:
    assert_all_pass("objective", entropy)
    assert_all_pass("objective", loss)


def test_every_check_is_tested_here() -> None:
    assert set(BROKEN) == {check.name for check in CHECKS["objective"]}
