"""Networks as functions of their weights, stacks of them, and the chunks in which they are worked on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError
from ddm_framework.network.memory import chunk_size, chunks, network_chunks
from ddm_framework.network.networks import Network, build_network
from ddm_framework.network.stacks import (
    Parameters,
    broadcast,
    concatenate,
    flat,
    is_finite,
    negative,
    norms,
    num_weights,
    scaled,
    take,
)

if TYPE_CHECKING:
    from conftest import Toy

INFO = DataInfo((1, 4, 4), 3, (0.5,), (0.25,), ("a", "b", "c"))
CPU = torch.device("cpu")


@pytest.fixture
def stack(toy: Toy) -> Parameters:
    return {name: torch.stack([each[name] for each in toy.trajectory.values()]) for name in toy.initial}


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


def test_stacks_are_taken_apart_and_put_together(toy: Toy, stack: Parameters) -> None:
    torch.testing.assert_close(take(stack, 2), toy.trajectory[2], rtol=0, atol=0)
    parts = [take(stack, slice(0, 2)), take(stack, torch.tensor([2])), take(stack, slice(3, 4))]
    torch.testing.assert_close(concatenate(parts), stack, rtol=0, atol=0)
    torch.testing.assert_close(
        flat(stack),
        torch.stack([torch.cat([each.flatten() for each in row.values()]) for row in toy.trajectory.values()]),
    )


def test_copies_of_a_network_share_no_memory(toy: Toy) -> None:
    before = {name: each.clone() for name, each in toy.initial.items()}
    copies = broadcast(toy.initial, 3)
    for each in copies.values():
        each[0] += 1
    torch.testing.assert_close(toy.initial, before, rtol=0, atol=0)
    torch.testing.assert_close(take(copies, 2), before, rtol=0, atol=0)


def test_norms_factors_and_the_reverse(stack: Parameters) -> None:
    torch.testing.assert_close(norms(stack), torch.linalg.vector_norm(flat(stack), dim=1))
    factors = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(flat(scaled(stack, factors)), factors[:, None] * flat(stack))
    torch.testing.assert_close(flat(negative(stack)), -flat(stack), rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_weight_that_is_not_finite_is_noticed(stack: Parameters, value: float) -> None:
    assert is_finite(stack)
    changed = {name: each.clone() for name, each in stack.items()}
    next(reversed(changed.values()))[-1, -1] = value
    assert not is_finite(changed)


@given(st.integers(0, 3000), st.integers(1, 500))
def test_chunks_hold_every_index_once_and_never_one_alone(total: int, size: int) -> None:
    parts = list(chunks(total, size))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))
    lengths = [part.stop - part.start for part in parts]
    assert all(length >= min(2, total) for length in lengths)
    assert all(length <= max(size, 3) for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


def test_chunks_of_nothing_and_of_one() -> None:
    assert list(chunks(0, 8)) == []
    assert list(chunks(1, 8)) == [slice(0, 1)]
    assert list(chunks(3, 1)) == [slice(0, 3)]


@given(st.integers(16, 10**5), st.integers(0, 10**9), st.integers(1, 1024))
def test_chunk_size_fits_the_memory_or_is_one(memory_mb: int, values: int, most: int) -> None:
    size = chunk_size(memory_mb, values, most)
    assert 1 <= size <= most
    assert size == 1 or 4 * values * size <= memory_mb * 2**20
    assert size == most or 4 * values * (size + 1) > memory_mb * 2**20


@pytest.mark.parametrize("memory_mb", [16, 64, 4096])
@pytest.mark.parametrize("total", [1, 2, 3, 65, 101, 129])
def test_chunks_hold_each_network_once_and_never_one_alone(toy: Toy, memory_mb: int, total: int) -> None:
    parts = network_chunks(toy.network, total, memory_mb)
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(total))
    assert min(part.stop - part.start for part in parts) >= min(2, total)


def test_a_network_of_another_dtype_computes_in_it(make_network: Callable[..., tuple[Network, Parameters]]) -> None:
    for dtype in (torch.float32, torch.float64):
        network, initial = make_network(dtype=dtype)
        assert network(initial, torch.zeros(1, 1, 4, 4, dtype=dtype)).dtype == dtype
