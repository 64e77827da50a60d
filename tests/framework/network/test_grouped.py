"""A stack of networks laid side by side as channels computes what vmap computes, or declines."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ddm_framework.network import grouped as grouped_module
from ddm_framework.network.constants import trained_names
from ddm_framework.network.grouped import grouped

RELU = nn.ReLU()


def gathered(module: nn.Module) -> nn.Module:
    """Batch norms with random statistics, in evaluation mode."""
    random = torch.Generator().manual_seed(2)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=random))
            layer.running_var.copy_(torch.rand(layer.num_features, generator=random) + 0.1)
    return module.eval()


NETWORKS = {
    "batch norm": gathered(
        nn.Sequential(
            nn.BatchNorm2d(3, affine=False),
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 6),
            nn.BatchNorm1d(6),
            nn.GELU(),
            nn.Linear(6, 5),
            nn.BatchNorm1d(5, affine=False),
            nn.Linear(5, 5),
        )
    ).double(),
    "convolutions": nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.GroupNorm(4, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.GroupNorm(3, 6),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(24, 5),
    ),
    "groups": nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 5, bias=False)),
    "norm_first": nn.Sequential(nn.GroupNorm(1, 3), nn.Conv2d(3, 2, 3, dilation=2), nn.Flatten(), nn.Linear(32, 5)),
    "no_scale": nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4, affine=False), nn.Flatten(), nn.Linear(144, 5)),
    "perceptron": nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Tanh(), nn.Linear(7, 5)),
    "nested": nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(144, 5))
    ),
    "one_activation_twice": nn.Sequential(
        nn.Conv2d(3, 4, 3), RELU, nn.Conv2d(4, 4, 3), RELU, nn.Flatten(), nn.Linear(64, 5)
    ),
}


def shared_linear() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), nn.Tanh(), nn.Linear(192, 192))
    module[3].weight = module[1].weight
    return module


class Doubled(nn.ReLU):
    def forward(self, values: Tensor) -> Tensor:
        return 2 * super().forward(values)


TIED = nn.Conv2d(3, 3, 3, padding=1)
OTHERS = {
    "no_sequence": nn.TransformerEncoderLayer(8, 2, batch_first=True),
    "subclass": nn.Sequential(nn.Flatten(), nn.Linear(192, 7), Doubled(), nn.Linear(7, 5)),
    "tied_weights": nn.Sequential(TIED, nn.ReLU(), TIED, nn.Flatten(), nn.Linear(192, 5)),
    "other_padding": nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(256, 5)
    ),
    "mixes_samples": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5)),
    "no_statistics": nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(144, 5)
    ).eval(),
    "shared_parameter": shared_linear(),
    "no_linear_end": nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh()),
    "flattens_less": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(36, 5)),
    "nothing": nn.Sequential(),
}


def stack_of(module: nn.Module, count: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(count, *each.shape, dtype=torch.float64, generator=random)
        for name, each in module.named_parameters()
    }


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("module", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("own", [False, True])
def test_a_stack_gives_the_logits_of_each_network(module: nn.Module, count: int, own: bool) -> None:
    forward = grouped(module)
    assert forward is not None
    stack, batch = stack_of(module, count), images(count, 4) if own else images(4)
    expected = vmap(lambda each, seen: functional_call(module, each, (seen,)), in_dims=(0, 0 if own else None))
    torch.testing.assert_close(forward(stack, batch), expected(stack, batch), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("trained", [["12.*"], ["6.*", "8.*", "12.*"], ["2.weight", "9.bias"], ["0.*"]], ids=str)
def test_weights_that_are_constants_are_the_same_for_all_networks(trained: list[str], own: bool) -> None:
    module = gathered(
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3, groups=2),
            nn.ReLU(),
            nn.GroupNorm(2, 4),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 6, 1),
            nn.Flatten(),
            nn.Linear(24, 7),
            nn.BatchNorm1d(7),
            nn.Tanh(),
            nn.Linear(7, 6),
            nn.Linear(6, 5),
        )
    ).double()
    names = trained_names(module, trained)
    forward = grouped(module, names)
    assert forward is not None
    stack = {name: each for name, each in stack_of(module, 3).items() if name in names}
    others = {name: each for name, each in stack_of(module, 1).items() if name not in names}
    constants = {**{name: each[0] for name, each in others.items()}, **dict(module.named_buffers())}
    batch = images(3, 4) if own else images(4)
    expected = vmap(
        lambda each, seen: functional_call(module, (each, constants), (seen,)), in_dims=(0, 0 if own else None)
    )
    torch.testing.assert_close(forward(stack, batch, constants), expected(stack, batch), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("module", OTHERS.values(), ids=OTHERS)
def test_what_is_more_than_a_sequence_of_known_layers_is_left_to_vmap(module: nn.Module) -> None:
    assert grouped(module) is None


@pytest.mark.parametrize("module", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("own", [False, True])
def test_a_stack_that_leaves_the_cache_goes_in_parts_with_the_same_bits(
    module: nn.Module, count: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = grouped(module)
    assert forward is not None
    stack, batch = stack_of(module, count), images(count, 4) if own else images(4)
    whole = forward(stack, batch)
    monkeypatch.setattr(grouped_module, "CACHED_VALUES", 1)
    assert torch.equal(forward(stack, batch), whole)


@pytest.mark.parametrize(
    ("count", "cached", "sizes"),
    [(1, 1, [1]), (2, 1, [2]), (5, 1, [3, 2]), (6, 1024, [6]), (6, 1023, [3, 3]), (6, 512, [3, 3])],
)
def test_parts_are_nearly_equal_and_never_one_network(
    count: int, cached: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouped_module, "CACHED_VALUES", cached * 6)
    layers = [nn.Conv2d(3, 4, 3), nn.Linear(8, 5)]
    assert grouped_module._part_sizes(count, layers, images(4)) == sizes


def test_networks_without_convolutions_stay_together() -> None:
    assert grouped_module._part_sizes(7, [nn.Linear(8, 5)], images(4)) == [7]
