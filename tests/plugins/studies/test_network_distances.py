"""Distances between networks agree with closed forms, over all weights and layer by layer."""

from __future__ import annotations

import pytest
import torch
from ddm_studies.comparison.network_distances import WHOLE, cosines, distances, layers

ORIGIN = {
    "conv.weight": torch.tensor([[1.0, 0.0]]),
    "conv.bias": torch.tensor([0.0]),
    "head.weight": torch.tensor([2.0]),
}


def moved(*by: tuple[float, float, float, float]) -> dict[str, torch.Tensor]:
    """A stack of networks, displaced by so much in each weight."""
    steps = torch.tensor(by)
    return {
        "conv.weight": ORIGIN["conv.weight"] + steps[:, None, :2],
        "conv.bias": ORIGIN["conv.bias"] + steps[:, 2:3],
        "head.weight": ORIGIN["head.weight"] + steps[:, 3:],
    }


def test_parameters_are_grouped_by_the_module_that_holds_them() -> None:
    found = layers([*ORIGIN, "token"])
    assert found == {
        WHOLE: ["conv.weight", "conv.bias", "head.weight", "token"],
        "conv": ["conv.weight", "conv.bias"],
        "head": ["head.weight"],
        "token": ["token"],
    }


def test_distances_are_euclidean() -> None:
    found = distances(moved((2, 1, 2, 4), (0, 0, 0, 0), (0, 3, 4, 0)), ORIGIN)
    assert found[WHOLE].tolist() == [5.0, 0.0, 5.0]
    assert found["conv"].tolist() == [3.0, 0.0, 5.0]
    assert found["head"].tolist() == [4.0, 0.0, 0.0]
    assert found[WHOLE].dtype == torch.float64


def test_squares_of_the_layers_add_up() -> None:
    random = torch.Generator().manual_seed(0)
    stack = {name: each + torch.randn(5, *each.shape, generator=random) for name, each in ORIGIN.items()}
    found = distances(stack, ORIGIN)
    whole = found.pop(WHOLE)
    torch.testing.assert_close(sum(each.square() for each in found.values()), whole.square())


def test_cosines_of_equal_opposite_orthogonal_and_no_displacements() -> None:
    one = moved((1, 2, 0, 1), (1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0))
    other = moved((2, 4, 0, 2), (-3, 0, 0, 0), (0, 1, 0, 1), (1, 1, 1, 1))
    found = cosines(one, other, ORIGIN)
    assert found[WHOLE].tolist() == pytest.approx([1, -1, 0, 0])
    assert found["head"].tolist() == pytest.approx([1, 0, 0, 0])


def test_each_stack_is_displaced_from_an_origin_of_its_own() -> None:
    random = torch.Generator().manual_seed(0)
    moved = {"a.weight": torch.randn(3, 2, 2, generator=random)}
    origins = [{"a.weight": torch.randn(2, 2, generator=random)} for _ in range(2)]
    one, other = ({"a.weight": each["a.weight"] + moved["a.weight"]} for each in origins)
    assert cosines(one, other, *origins)["a"].tolist() == pytest.approx([1] * 3, abs=1e-5)
