"""Each check of clusterers and of distances catches a component that breaks it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checked import assert_all_pass, assert_caught
from torch import Tensor

from ddm_framework import of_inner_products
from ddm_framework.network.stacks import Gradient
from ddm_framework.testing.checks import CHECKS

Generator = torch.Generator


def shuffled(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Random clusters of equal size."""
    return torch.randperm(len(features), generator=generator) % num_clusters


def as_floats(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Ids of the wrong type."""
    return shuffled(features, num_clusters, generator).float()


def counted_from_one(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Ids that no cluster has."""
    return shuffled(features, num_clusters, generator) + 1


def by_bins(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Bins of the first feature, some of them empty."""
    first = features[:, 0]
    share = (first - first.min()) / (first.max() - first.min()).clamp_min(1e-9)
    return (share * num_clusters).long().clamp_max(num_clusters - 1)


def from_the_global_state(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Draws that nobody seeded."""
    return torch.randperm(len(features)) % num_clusters


def by_python(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Draws from a state that others use."""
    ids = list(range(len(features)))
    random.Random(0).shuffle(ids)
    random.random()
    return torch.tensor(ids) % num_clusters


def in_place(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Writes to what it was given."""
    features -= features.mean(0)
    return shuffled(features, num_clusters, generator)


def on_two_features(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Looks at a feature that may not be there."""
    return features[:, 1].argsort().argsort() * num_clusters // len(features)


def at_least_two(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """Two clusters where one was asked for."""
    return torch.arange(len(features)) % max(num_clusters, 2)


def at_most_four(features: Tensor, num_clusters: int, generator: Generator, /) -> Tensor:
    """No more clusters than four."""
    return torch.arange(len(features)) % min(num_clusters, 4)


CLUSTERERS: dict[str, Callable[..., Any]] = {
    "check_returns_an_id_for_each_sample": as_floats,
    "check_every_id_is_used": counted_from_one,
    "check_one_cluster": at_least_two,
    "check_as_many_clusters_as_samples": at_most_four,
    "check_samples_that_coincide": by_bins,
    "check_one_feature": on_two_features,
    "check_same_generator_same_clusters": from_the_global_state,
    "check_leaves_global_randomness_alone": by_python,
    "check_features_stay_as_they_are": in_place,
}


def pairs(synthetic: Gradient, target: Gradient) -> list[tuple[Tensor, Tensor]]:
    return [(synthetic[name], target[name]) for name in target]


def squared(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Sum of squares of the difference."""
    return torch.stack([(a - b).square().sum() for a, b in pairs(synthetic, target)]).sum()


def one_a_tensor(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Not one number."""
    return torch.stack([(a - b).square().sum() for a, b in pairs(synthetic, target)])


def detached(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """No derivative."""
    return squared({name: each.detach() for name, each in synthetic.items()}, target)


def likeness(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Large where it should be small."""
    return torch.stack([(a * b).sum() for a, b in pairs(synthetic, target)]).sum()


def without_sign(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """The same for a gradient and its opposite."""
    return torch.stack([(a.abs() - b.abs()).square().sum() for a, b in pairs(synthetic, target)]).sum()


def uphill(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """A derivative of the wrong sign."""
    value = squared(synthetic, target)
    return 2 * value.detach() - value


def with_item(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """A branch on a value."""
    value = squared(synthetic, target)
    return value if value.item() > 0 else value * 0


def euclidean(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Lengths under a root, whose derivative at zero is infinite."""
    ours, theirs = (torch.stack([each[name].square().sum() for name in target]).sum() for each in (synthetic, target))
    return squared(synthetic, target) / theirs.sqrt() + 0 * ours.sqrt()


def infinite(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Too large for a float."""
    return squared(synthetic, target) / 0


def emptying(synthetic: Gradient, target: Gradient, /) -> Tensor:
    """Writes to its second argument."""
    value = squared(synthetic, dict(target))
    target["0.bias"] = target["0.bias"] * 0
    return value


@of_inner_products(lambda inner, _synthetic, _target, /: -inner.sum())
def with_another_formula(synthetic: dict[str, Tensor], target: dict[str, Tensor], /) -> Tensor:
    """Declares a formula that is not its own."""
    return squared(synthetic, target)


DISTANCES: dict[str, Callable[..., Any]] = {
    "check_returns_one_finite_number": infinite,
    "check_differentiable_in_the_synthetic_gradient": detached,
    "check_least_where_gradients_agree": likeness,
    "check_knows_no_direction": without_sign,
    "check_a_step_down_comes_nearer": uphill,
    "check_runs_inside_vmap": with_item,
    "check_finite_for_a_gradient_of_zero": euclidean,
    "check_gradients_stay_as_they_are": emptying,
    "check_a_declared_formula_is_the_distance": with_another_formula,
}
CASES = [("clusterer", *each) for each in CLUSTERERS.items()] + [("distance", *each) for each in DISTANCES.items()]


@pytest.mark.parametrize(("kind", "check", "function"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_broken_is_caught(kind: str, check: str, function: Callable[..., Any]) -> None:
    assert_caught(kind, check, function)


def test_a_distance_of_another_shape_is_caught() -> None:
    assert_caught("distance", "check_returns_one_finite_number", one_a_tensor)


def test_plain_ones_pass() -> None:
    assert_all_pass("clusterer", shuffled)
    assert_all_pass("distance", squared)


def test_every_check_is_tested_here() -> None:
    assert set(CLUSTERERS) == {check.name for check in CHECKS["clusterer"]}
    assert set(DISTANCES) == {check.name for check in CHECKS["distance"]}
