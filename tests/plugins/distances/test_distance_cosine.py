"""One minus the cosine: closed forms, a finite value and finite derivatives also where there is no direction."""

from __future__ import annotations

import math

import pytest
import torch
from ddm_distances.cosine import distance
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, vmap

Gradient = dict[str, Tensor]


def gradient(seed: int, dtype: torch.dtype = torch.float64) -> Gradient:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random, dtype=dtype) for name, shape in SHAPES.items()}


def times(factor: float, one: Gradient) -> Gradient:
    return {name: factor * each for name, each in one.items()}


SHAPES = {"weight": (3, 2, 2), "bias": (3,), "scale": ()}
ZERO = times(0, gradient(0))


def test_closed_forms() -> None:
    one = gradient(0)
    right, up, both = ({"w": torch.tensor(each).double()} for each in ([1.0, 0.0], [0.0, 2.0], [3.0, 3.0]))
    assert distance(one, one).item() == pytest.approx(0, abs=1e-15)
    assert distance(one, times(-1, one)).item() == pytest.approx(2, abs=1e-15)
    assert distance(right, up).item() == 1
    assert distance(right, both).item() == pytest.approx(1 - math.sqrt(0.5), abs=1e-15)


def test_network_has_one_cosine_and_tensors_have_one_each() -> None:
    one, other = gradient(0), gradient(1)
    whole = [torch.cat([each.flatten() for each in (g[name] for name in SHAPES)]) for g in (one, other)]
    wanted = 1 - whole[0] @ whole[1] / (whole[0].norm() * whole[1].norm())
    torch.testing.assert_close(distance(one, other), wanted)
    by_tensor = [1 - (one[name] * other[name]).sum() / (one[name].norm() * other[name].norm()) for name in SHAPES]
    torch.testing.assert_close(distance(one, other, per="tensor"), torch.stack(by_tensor).mean())


@given(st.integers(0, 50), st.integers(0, 50), st.floats(1e-3, 1e3), st.sampled_from(["network", "tensor"]))
@settings(max_examples=30, deadline=None)
def test_length_does_not_count_and_the_sides_are_alike(one: int, other: int, factor: float, per: str) -> None:
    first, second = gradient(one), gradient(other)
    found = distance(first, second, per=per)
    assert 0 - 1e-12 <= found <= 2 + 1e-12
    torch.testing.assert_close(distance(times(factor, first), second, per=per), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(distance(second, first, per=per), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(distance(first, times(-1, second), per=per), 2 - found, rtol=0, atol=1e-12)


def test_order_of_the_tensors_does_not_count() -> None:
    one, other = gradient(0), gradient(1)
    turned = dict(reversed(one.items()))
    for per in ("network", "tensor"):
        torch.testing.assert_close(distance(turned, other, per=per), distance(one, other, per=per))


@pytest.mark.parametrize("per", ["network", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("zero", ["synthetic", "target", "both"])
def test_zero_gradient_has_distance_one_and_finite_derivatives(per: str, dtype: torch.dtype, zero: str) -> None:
    one = times(0 if zero != "target" else 1, gradient(0, dtype))
    other = times(0 if zero != "synthetic" else 1, gradient(1, dtype))
    assert distance(one, other, per=per) == 1

    def slope(synthetic: Gradient) -> Gradient:
        return grad(lambda each: distance(each, other, per=per))(synthetic)

    first = slope(one)
    second = grad(lambda each: sum(part.sum() + part.square().sum() for part in slope(each).values()))(one)
    for derivative in (first, second):
        assert all(torch.isfinite(each).all() for each in derivative.values())


@pytest.mark.parametrize("per", ["network", "tensor"])
def test_a_tensor_without_gradient_spoils_no_other(per: str) -> None:
    one, other = {**gradient(0), "bias": ZERO["bias"]}, {**gradient(1), "bias": ZERO["bias"]}
    slope = grad(lambda each: distance(each, other, per=per))(one)
    assert torch.equal(slope["bias"], ZERO["bias"])
    assert slope["weight"].abs().min() > 0


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e4])
def test_float32_gradients_of_any_usual_length_keep_their_direction(scale: float) -> None:
    one, other = gradient(0, torch.float32), gradient(1, torch.float32)
    wanted = distance(gradient(0), gradient(1)).item()
    assert distance(one, times(scale, other)).item() == pytest.approx(wanted, abs=0.02)
    assert distance(times(scale, one), times(scale, one)).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("per", ["network", "tensor"])
def test_both_derivatives_agree_with_finite_differences(per: str) -> None:
    values = [each.requires_grad_() for each in gradient(0).values()]
    other = gradient(1)

    def of_values(*each: Tensor) -> Tensor:
        return distance(dict(zip(SHAPES, each, strict=True)), other, per=per)

    assert torch.autograd.gradcheck(of_values, values)
    assert torch.autograd.gradgradcheck(of_values, values)


def test_many_clusters_at_once() -> None:
    ones, others = [gradient(seed) for seed in range(4)], [gradient(seed) for seed in range(4, 8)]
    stacked = [{name: torch.stack([each[name] for each in side]) for name in SHAPES} for side in (ones, others)]
    alone = torch.stack([distance(one, other) for one, other in zip(ones, others, strict=True)])
    torch.testing.assert_close(vmap(distance)(*stacked), alone)
