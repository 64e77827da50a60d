"""Networks as functions of their weights, stacks of them, and the chunks in which they are worked on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.memory import Budget, Cost
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.stacks import (
    Parameters,
    broadcast,
    num_weights,
    take,
)

if TYPE_CHECKING:
    from conftest import Toy

INFO = DataInfo((1, 4, 4), 3, (0.5,), (0.25,), ("a", "b", "c"))
CPU = torch.device("cpu")


def linear(_info: DataInfo) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def test_network_is_the_module_with_these_weights(toy: Toy) -> None:
    for parameters in toy.trajectory.values():
        wanted = toy.module(parameters)(toy.data.images)
        torch.testing.assert_close(toy.network(parameters, toy.data.images), wanted, rtol=0, atol=1e-14)


def test_loss_takes_class_ids_and_probabilities(toy: Toy) -> None:
    logits = toy.network(toy.initial, toy.data.images).log_softmax(1)
    own = -logits.gather(1, toy.data.labels[:, None])[:, 0]
    certain = F.one_hot(toy.data.labels, 3).double()
    for labels in (toy.data.labels, certain):
        torch.testing.assert_close(toy.network.loss(toy.initial, toy.data.images, labels), own, rtol=0, atol=1e-12)
    mixed = torch.tensor([0.2, 0.3, 0.5]).double().expand(len(toy.data), 3)
    wanted = -(logits * mixed).sum(1)
    torch.testing.assert_close(toy.network.loss(toy.initial, toy.data.images, mixed), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 128])
def test_logits_of_a_stack(toy: Toy, stack: Parameters, batch_size: int) -> None:
    wanted = torch.stack([toy.module(each)(toy.data.images) for each in toy.trajectory.values()])
    found = toy.network.logits(stack, toy.data.images, batch_size)
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=1e-12)
    assert not found.requires_grad


def test_a_very_large_network_is_asked_about_few_queries_at_a_time(toy: Toy) -> None:
    assert toy.network.query_batch == 128
    # 25 million are those of EfficientNet-Lite0 at 224 pixels.
    assert dataclasses.replace(toy.network, activation_values=25_000_000).query_batch == 10
    assert dataclasses.replace(toy.network, activation_values=2**40).query_batch == 1


@pytest.fixture(params=["grouped", "vmap"])
def network(request: pytest.FixtureRequest, toy: Toy) -> Network:
    """The toy's network by either of the ways in which a stack of networks is computed."""
    assert toy.network.grouped is not None
    return toy.network if request.param == "grouped" else dataclasses.replace(toy.network, grouped=None)


@pytest.mark.parametrize("own_images", [False, True])
def test_stacked_networks_are_each_network(toy: Toy, stack: Parameters, network: Network, own_images: bool) -> None:
    images = toy.data.images[:12].unflatten(0, (4, 3)) if own_images else toy.data.images
    given = list(images) if own_images else [images] * 4
    wanted = [toy.module(each)(own) for each, own in zip(toy.trajectory.values(), given, strict=True)]
    torch.testing.assert_close(network.stacked(stack, images), torch.stack(wanted).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("own_images", [False, True])
@pytest.mark.parametrize("own_labels", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_gradients_of_weighted_losses_are_those_of_each_network(
    toy: Toy, stack: Parameters, network: Network, own_images: bool, own_labels: bool, soft: bool
) -> None:
    random = torch.Generator().manual_seed(1)
    images = toy.data.images[:20].unflatten(0, (4, 5)) if own_images else toy.data.images[:5]
    ids = torch.randint(3, (4, 5) if own_labels else (5,), generator=random)
    labels = 0.7 * F.one_hot(ids, 3).double() + 0.1 if soft else ids
    weights = torch.randn(4, 5, generator=random, dtype=torch.float64) * (torch.arange(5) != 2)
    found = network.gradients(stack, images, labels, weights)
    for index, parameters in enumerate(toy.trajectory.values()):
        module = toy.module(parameters)
        own = labels[index] if own_labels else labels
        losses = F.cross_entropy(module(images[index] if own_images else images), own, reduction="none")
        (losses * weights[index]).sum().backward()
        wanted = {name: each.grad for name, each in module.named_parameters()}
        torch.testing.assert_close(take(found, index), wanted, rtol=0, atol=1e-12)


def test_a_parameter_that_takes_no_part_has_a_gradient_of_zero() -> None:
    class Idle(nn.Linear):
        def __init__(self) -> None:
            super().__init__(16, 3)
            self.idle = nn.Parameter(torch.ones(2))

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flatten(1))

    network, initial = build_network(lambda _info: Idle(), INFO, 0, CPU)
    found = network.gradients(broadcast(initial, 2), torch.ones(1, 1, 4, 4), torch.tensor([0]), torch.ones(2, 1))
    assert torch.equal(found["idle"], torch.zeros(2, 2))
    assert found["weight"].abs().min() > 0


def test_building_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    _, first = build_network(linear, INFO, 0, CPU)
    assert torch.equal(torch.rand(2), wanted)
    _, again = build_network(linear, INFO, 0, CPU)
    _, other = build_network(linear, INFO, 1, CPU)
    assert torch.equal(first["1.weight"], again["1.weight"])
    assert not torch.equal(first["1.weight"], other["1.weight"])


def test_built_network_is_in_evaluation_mode_and_its_module_asks_for_no_gradient() -> None:
    network, initial = build_network(lambda _info: nn.Sequential(linear(INFO), nn.Dropout(0.5)), INFO, 0, CPU)
    assert not network.module.training
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert not any(each.requires_grad for each in initial.values())
    images = torch.ones(2, 1, 4, 4)
    assert torch.equal(network(initial, images), network(initial, images))


def test_buffers_take_part() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(INFO)
            self.register_buffer("shift", torch.tensor([1.0, 2.0, 3.0]))

        def forward(self, images: Tensor) -> Tensor:
            return self.linear(images) + self.shift

    network, initial = build_network(lambda _info: Shifted(), INFO, 0, CPU)
    zeros = {name: torch.zeros_like(each) for name, each in initial.items()}
    assert torch.equal(network(zeros, torch.ones(1, 1, 4, 4)), torch.tensor([[1.0, 2.0, 3.0]]))


def test_activations_are_counted() -> None:
    def build(_info: DataInfo) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))

    network, initial = build_network(build, INFO, 0, CPU)
    assert network.activation_values == 16 + 20 + 20 + 20 + 3
    assert num_weights(initial) == 5 * 9 + 5 + 20 * 3 + 3


def test_batch_norm_is_refused_by_name() -> None:
    with pytest.raises(DDMError, match=r"batch norm at '0\.1': it mixes the samples .*; use instance, group or layer"):
        build_network(lambda _info: nn.Sequential(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1))), INFO, 0, CPU)


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(DDMError, match=r"returns shape \(1, 16\) for one image; it must return logits \(1, 3\)"):
        build_network(lambda _info: nn.Flatten(), INFO, 0, CPU)


def test_a_network_of_another_dtype_computes_in_it(make_network: Callable[..., tuple[Network, Parameters]]) -> None:
    for dtype in (torch.float32, torch.float64):
        network, initial = make_network(dtype=dtype)
        assert network(initial, torch.zeros(1, 1, 4, 4, dtype=dtype)).dtype == dtype


def test_what_comes_before_the_trained_weights_is_counted_and_costs_less() -> None:
    def build(_info: DataInfo) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3))

    whole, _ = build_network(build, INFO, 0, CPU)
    last, initial = build_network(build, INFO, 0, CPU, parameters=["3.*"])
    assert whole.still_values == 0 and whole.num_weights == 113
    assert last.still_values == 16 + 20 + 20 + 20 and last.activation_values == whole.activation_values
    assert set(initial) == {"3.weight", "3.bias"} and last.num_weights == 63
    cost = Cost(weights=6, activations=16, most=10**6)
    values = 6 * 63 + 16 * 3 + 3 * 76
    assert Budget(1).fitting(last, cost) == 2**20 // (4 * values)
    assert Budget(1).fitting(whole, cost) == 2**20 // (4 * (6 * 113 + 16 * 79))
