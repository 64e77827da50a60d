"""The ConvNet of dataset condensation: its sizes, its derivatives, and the images that are too small for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ddm_backbones.convnet import build
from torch import nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError

Info = Callable[..., DataInfo]


def test_default_is_three_blocks_of_128(info: Info) -> None:
    network = build(info(32, 3, 10))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128] * 3
    assert network[-1].in_features == 128 * 4 * 4
    assert network[-1].out_features == 10


def test_instance_norm_is_one_group_a_channel_and_needs_no_bias_before_it(info: Info) -> None:
    network = build(info(), width=6, depth=1)
    image = torch.randn(1, 1, 8, 8)
    normalised = network[1](network[0](image))
    torch.testing.assert_close(normalised, nn.InstanceNorm2d(6)(network[0](image)))
    assert network[0].bias is None


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_no_parameter_is_idle(info: Info, norm: str) -> None:
    torch.manual_seed(0)
    network = build(info(), width=4, depth=2, norm=norm, groups=2).double()
    network(torch.randn(2, 1, 8, 8, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-9 for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_both_derivatives_agree_with_finite_differences(info: Info, norm: str) -> None:
    torch.manual_seed(0)
    network = build(info(4), width=2, depth=1, norm=norm, groups=1).double()
    image = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (image,))
    assert torch.autograd.gradgradcheck(network, (image,))


@pytest.mark.parametrize(("size", "deepest"), [(2, 1), (7, 2), (8, 3), (28, 4)])
def test_deepest_network_that_an_image_allows(info: Info, size: int, deepest: int) -> None:
    assert build(info(size), width=4, depth=deepest)(torch.randn(1, 1, size, size)).shape == (1, 3)
    with pytest.raises(DDMError, match=f"`depth: {deepest + 1}` halves images of {size}x{size} .* `depth: {deepest}`$"):
        build(info(size), width=4, depth=deepest + 1)


def test_image_of_one_pixel(info: Info) -> None:
    with pytest.raises(DDMError, match=r"halves images of 1x1 pixels .* they are too small for any$"):
        build(info(1), depth=1)


def test_batch_norm_is_refused_with_the_reason(info: Info) -> None:
    with pytest.raises(DDMError, match=r"`norm: batch` is refused, because a synset has one image per cluster .* take"):
        build(info(), norm="batch")


def test_groups_must_divide_the_width(info: Info) -> None:
    with pytest.raises(DDMError, match="`width: 12` cannot be divided into `groups: 8`"):
        build(info(), width=12, norm="group")
    build(info(), width=12, norm="instance", depth=1)
