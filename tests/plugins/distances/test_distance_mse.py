"""Mean squared difference over all weights of the network."""

from __future__ import annotations

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
    assert distance(one, other).item() == (0 + 4 + 9 + 0) / 4
    assert distance(one, one).item() == 0
    assert distance({"w": torch.zeros(5)}, {"w": torch.full((5,), -2.0)}).item() == 4


def test_every_weight_counts_alike() -> None:
    one, other = gradient(0), gradient(1)
    whole = [torch.cat([each[name].flatten() for name in SHAPES]) for each in (one, other)]
    torch.testing.assert_close(distance(one, other), torch.nn.functional.mse_loss(*whole))
    torch.testing.assert_close(distance(dict(reversed(one.items())), other), distance(one, other))


def test_slope_is_twice_the_difference_over_the_number_of_weights() -> None:
    one, other = gradient(0), gradient(1)
    for name, slope in grad(distance)(one, other).items():
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
