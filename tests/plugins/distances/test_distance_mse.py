"""Squared difference, as a share of the squared length of the target or as a mean over all weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from ddm_distances.mse import distance
from torch import Tensor
from torch.func import grad, vmap

SHAPES = {"weight": (3, 2, 2), "bias": (3,), "scale": ()}


def gradient(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in SHAPES.items()}


def test_closed_forms() -> None:
    one = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    other = {"w": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 4.0])}
    assert distance(one, other).item() == pytest.approx((0 + 4 + 9 + 0) / (1 + 0 + 0 + 16))
    assert distance(one, other, normalise=False).item() == (0 + 4 + 9 + 0) / 4
    assert distance(one, one).item() == distance(one, one, normalise=False).item() == 0
    assert distance({"w": torch.zeros(5)}, {"w": torch.full((5,), -2.0)}).item() == 1
    assert distance({"w": torch.zeros(5)}, {"w": torch.full((5,), -2.0)}, normalise=False).item() == 4


def test_the_scale_of_both_gradients_does_not_matter_unless_told() -> None:
    """Adam adds 1e-8 to the root of the squared gradient, which must stay small beside it in any network."""
    one, other = gradient(0), gradient(1)
    small = [{name: 1e-6 * each for name, each in side.items()} for side in (one, other)]
    torch.testing.assert_close(distance(*small), distance(one, other))
    torch.testing.assert_close(distance(*small, normalise=False), 1e-12 * distance(one, other, normalise=False))


def test_a_target_of_zero_gives_no_nan() -> None:
    zero = {"w": torch.zeros(3)}
    assert distance(zero, zero).item() == 0
    assert torch.isfinite(grad(distance)({"w": torch.zeros(3)}, zero)["w"]).all()


def test_every_weight_counts_alike() -> None:
    one, other = gradient(0), gradient(1)
    whole = [torch.cat([each[name].flatten() for name in SHAPES]) for each in (one, other)]
    torch.testing.assert_close(distance(one, other, normalise=False), torch.nn.functional.mse_loss(*whole))
    torch.testing.assert_close(distance(one, other), (whole[0] - whole[1]).norm() ** 2 / whole[1].norm() ** 2)
    torch.testing.assert_close(distance(dict(reversed(one.items())), other), distance(one, other))


def test_slope_is_twice_the_difference_over_the_divisor() -> None:
    one, other = gradient(0), gradient(1)
    length = sum(each.square().sum() for each in other.values())
    for name, slope in grad(distance)(one, other).items():
        torch.testing.assert_close(slope, 2 * (one[name] - other[name]) / length)
    for name, slope in grad(partial(distance, normalise=False))(one, other).items():
        torch.testing.assert_close(slope, 2 * (one[name] - other[name]) / 16)
    assert all((slope == 0).all() for slope in grad(distance)(one, one).values())


def test_both_derivatives_agree_with_finite_differences() -> None:
    values, other = [each.requires_grad_() for each in gradient(0).values()], gradient(1)

    def of_values(*each: Tensor) -> Tensor:
        return distance(dict(zip(SHAPES, each, strict=True)), other)

    assert torch.autograd.gradcheck(of_values, values)
    assert torch.autograd.gradgradcheck(of_values, values)


@pytest.mark.parametrize("count", [1, 4])
def test_many_clusters_at_once(count: int) -> None:
    ones, others = [gradient(seed) for seed in range(count)], [gradient(seed + 9) for seed in range(count)]
    stacked = [{name: torch.stack([each[name] for each in side]) for name in SHAPES} for side in (ones, others)]
    alone = torch.stack([distance(one, other) for one, other in zip(ones, others, strict=True)])
    torch.testing.assert_close(vmap(distance)(*stacked), alone)
