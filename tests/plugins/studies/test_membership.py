"""Attacks on membership succeed where members are told apart with ease, and gain nothing where they are alike."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from ddm_studies.comparison.membership import advantage, auc, auc_interval, best_threshold, losses
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.networks import build_network


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, generator=generator(seed), dtype=torch.float64) + shift


def test_members_with_lower_losses_throughout_are_all_found() -> None:
    assert advantage(torch.linspace(0, 1, 20), torch.linspace(2, 3, 10), generator()) == 1
    assert auc(torch.linspace(2, 3, 20), torch.linspace(0, 1, 10)) == 1


def test_members_with_higher_losses_are_not_found_by_this_attack() -> None:
    assert advantage(torch.linspace(2, 3, 20), torch.linspace(0, 1, 20), generator()) == 0


def test_constant_losses_tell_nothing() -> None:
    assert advantage(torch.ones(10), torch.ones(7), generator()) == 0
    assert auc(torch.ones(10), torch.ones(7)) == 0.5


def test_losses_of_one_distribution_give_about_nothing() -> None:
    found = [advantage(normal(200, seed), normal(200, seed + 100), generator(seed)) for seed in range(10)]
    assert abs(sum(found) / 10) < 0.03


def test_two_normal_distributions_give_the_closed_form() -> None:
    """Shifted by two: the best threshold lies half-way, and the advantage is 2 Φ(1) − 1."""
    wanted = 2 * float(torch.special.ndtr(torch.tensor(1.0))) - 1
    assert advantage(normal(4000, 1), normal(4000, 2, 2.0), generator(), 5) == pytest.approx(wanted, abs=0.03)
    assert best_threshold(normal(20000, 1), normal(20000, 2, 2.0)) == pytest.approx(1, abs=0.15)


def test_the_threshold_is_the_best_of_all_and_none_where_nothing_helps() -> None:
    members, others = torch.tensor([0.1, 0.2, 0.9]).double(), torch.tensor([0.3, 0.8, 1.0]).double()
    assert best_threshold(members, others) == pytest.approx(0.25)
    assert best_threshold(others + 5, members) == -float("inf")


def test_the_same_generator_gives_the_same_advantage() -> None:
    sets = normal(30, 1), normal(30, 2, 0.5)
    assert advantage(*sets, generator(3)) == advantage(*sets, generator(3))


def test_the_auc_is_the_share_of_pairs_in_order_and_lies_in_its_interval() -> None:
    members, others = normal(40, 1, 0.7), normal(30, 2)
    pairs = (members[:, None] > others[None]).double().mean()
    assert auc(members, others) == pytest.approx(float(pairs))
    low, high = auc_interval(members, others, generator(), 100)
    assert 0 < low <= auc(members, others) <= high < 1


@pytest.mark.parametrize("bad", [torch.ones(1), torch.ones(2, 2), torch.tensor([0.0, torch.nan])])
def test_too_few_and_not_finite_scores_are_refused(bad: Tensor) -> None:
    with pytest.raises(ValueError, match="others"):
        advantage(torch.ones(4), bad, generator())


def test_losses_are_those_of_an_ordinary_module() -> None:
    info = DataInfo((1, 4, 4), 3, (0.5,), (0.25,), ("a", "b", "c"))
    network, initial = build_network(
        lambda _: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), info, 0, torch.device("cpu")
    )
    images, labels = torch.randn(9, 1, 4, 4, generator=generator()), torch.arange(9) % 3
    module = copy.deepcopy(network.module)
    module.load_state_dict(initial)
    wanted = F.cross_entropy(module(images), labels, reduction="none").detach()
    torch.testing.assert_close(losses(network, initial, ImageSet(images, labels)), wanted.double())
