"""ResNet18_AP: what is kept of timm's, what is not, and the images that are too small for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from ddm_backbones.resnet import build
from torch import nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError

Info = Callable[..., DataInfo]


def test_default_has_the_blocks_of_resnet18(info: Info) -> None:
    original = dict(timm.create_model("resnet18", num_classes=3).named_parameters())
    found = dict(build(info(32, 3)).named_parameters())
    blocks = {name: each.shape for name, each in found.items() if name.startswith("layer") and "downsample" not in name}
    assert blocks == {
        name: each.shape for name, each in original.items() if name.startswith("layer") and "downsample" not in name
    }
    assert found["conv1.weight"].shape == (64, 3, 3, 3)
    assert found["fc.weight"].shape == (3, 512 * 4 * 4)


def test_nothing_strides_and_nothing_is_pooled_by_its_maximum(info: Info) -> None:
    layers = list(build(info(32, 3), width=4).modules())
    assert {layer.stride for layer in layers if isinstance(layer, nn.Conv2d)} == {(1, 1)}
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in layers)
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in layers) == 6


@pytest.mark.parametrize(("size", "side"), [(28, 3), (32, 4), (36, 4), (64, 8)])
def test_last_map(info: Info, size: int, side: int) -> None:
    network = build(info(size), width=2, blocks=[1, 1, 1, 1])
    assert network.fc.in_features == 16 * side * side
    assert network(torch.randn(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("blocks", [[2], [2, 1], [1, 1, 1, 1]])
def test_no_parameter_is_idle_not_even_at_first(info: Info, norm: str, blocks: list[int]) -> None:
    torch.manual_seed(0)
    network = build(info(28), width=4, norm=norm, groups=2, blocks=blocks).double()
    network(torch.randn(2, 1, 28, 28, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-9 for parameter in network.parameters())


def test_default_initialisation_is_that_of_timm_in_the_stem_too(info: Info) -> None:
    weight = build(info(32, 3), width=64, blocks=[2]).conv1.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


@pytest.mark.parametrize(("size", "most"), [(2, 1), (7, 2), (8, 3), (16, 4), (28, 4)])
def test_most_stages_that_an_image_allows(info: Info, size: int, most: int) -> None:
    assert build(info(size), width=2, blocks=[2] * most)(torch.randn(1, 1, size, size)).shape == (1, 3)
    if most < 4:
        wanted = rf"the {most + 1} stages of `blocks: .*` halve images of {size}x{size} .* take at most {most}, as in"
        with pytest.raises(DDMError, match=wanted):
            build(info(size), width=2, blocks=[1] * (most + 1))


def test_single_block_is_refused(info: Info) -> None:
    with pytest.raises(DDMError, match=r"`blocks: \[1\]` is only one block; take at least two, as in \[2\]"):
        build(info(32), blocks=[1])


def test_image_of_one_pixel(info: Info) -> None:
    with pytest.raises(DDMError, match=r"halve images of 1x1 pixels .* they are too small for any$"):
        build(info(1), blocks=[1])


def test_batch_norm_and_uneven_groups_are_refused(info: Info) -> None:
    with pytest.raises(DDMError, match="backbone resnet: `norm: batch` is refused"):
        build(info(32), norm="batch")
    with pytest.raises(DDMError, match="`width: 12` cannot be divided into `groups: 8`"):
        build(info(32), width=12, norm="group")
