"""AlexNetIN: its layers and sizes, and the images that are too small for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ddm_backbones.alexnet import build
from torch import nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError

Info = Callable[..., DataInfo]


def test_default_is_that_of_dataset_condensation(info: Info) -> None:
    network = build(info(32, 3, 10))
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128, 192, 256, 192, 192]
    assert [layer.kernel_size[0] for layer in convolutions] == [5, 5, 3, 3, 3]
    assert [layer.num_groups for layer in network if isinstance(layer, nn.GroupNorm)] == [128, 192, 256, 192, 192]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in network) == 3
    assert network[-1].in_features == 192 * 4 * 4


@pytest.mark.parametrize(("size", "side"), [(8, 1), (28, 4), (30, 4), (32, 4), (64, 8)])
def test_last_map(info: Info, size: int, side: int) -> None:
    network = build(info(size), width=2)
    assert network[-1].in_features == 3 * side * side
    assert network(torch.randn(2, 1, size, size)).shape == (2, 3)


def test_height_and_width_may_differ() -> None:
    data = DataInfo((3, 28, 64), 3, (0.5,) * 3, (0.25,) * 3, ("a", "b", "c"))
    assert build(data, width=2)(torch.randn(1, 3, 28, 64)).shape == (1, 3)


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_no_parameter_is_idle(info: Info, norm: str, pooling: str) -> None:
    torch.manual_seed(0)
    network = build(info(28), width=4, norm=norm, groups=2, pooling=pooling).double()
    network(torch.randn(2, 1, 28, 28, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-9 for parameter in network.parameters())


def test_small_images_are_refused(info: Info) -> None:
    with pytest.raises(DDMError, match=r"images of 7x7 pixels are too small .* it takes 8x8 and more; .*use: convnet"):
        build(info(7))


def test_batch_norm_and_uneven_groups_are_refused(info: Info) -> None:
    with pytest.raises(DDMError, match="backbone alexnet: `norm: batch` is refused"):
        build(info(32), norm="batch")
    with pytest.raises(DDMError, match=r"`width: 8` makes layers of 12 channels, which .* `groups: 8`"):
        build(info(32), width=8, norm="group")
