"""Group norms in the place of batch norms: what is carried over, and what is left to be refused."""

from __future__ import annotations

import pytest
import torch
from ddm_backbones.group_norms import mixing_layers, replace_batch_norms
from timm.layers.evo_norm import EvoNorm2dB0
from timm.layers.norm_act import BatchNormAct2d, GroupNormAct
from timm.layers.split_batchnorm import SplitBatchNorm2d
from torch import nn


@pytest.mark.parametrize(("channels", "groups", "found"), [(64, 8, 8), (12, 8, 6), (7, 8, 7), (13, 8, 1), (4, 1, 1)])
def test_groups_divide_the_channels(channels: int, groups: int, found: int) -> None:
    network = nn.Sequential(nn.BatchNorm2d(channels))
    replace_batch_norms(network, groups)
    assert type(network[0]) is nn.GroupNorm
    assert network[0].num_groups == found


def test_scale_shift_and_epsilon_are_carried_over() -> None:
    old = nn.BatchNorm2d(6, eps=0.5)
    nn.init.normal_(old.weight)
    nn.init.normal_(old.bias)
    network = nn.ModuleDict({"inner": nn.Sequential(old)})
    replace_batch_norms(network, 3)
    x = torch.randn(2, 6, 4, 4)
    wanted = nn.functional.group_norm(x, 3, old.weight, old.bias, 0.5)
    torch.testing.assert_close(network["inner"][0](x), wanted)


def test_activation_and_drop_layer_are_kept() -> None:
    old = BatchNormAct2d(6, act_layer=nn.SiLU, drop_layer=nn.Dropout2d)
    network = nn.Sequential(old)
    replace_batch_norms(network, 3)
    new = network[0]
    assert isinstance(new, GroupNormAct)
    assert new.act is old.act
    assert new.drop is old.drop
    x = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(new.eval()(x), nn.functional.silu(nn.functional.group_norm(x, 3)))


def test_norm_without_scale() -> None:
    network = nn.Sequential(nn.BatchNorm2d(6, affine=False))
    replace_batch_norms(network, 3)
    assert network[0].weight is None


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), SplitBatchNorm2d(4), EvoNorm2dB0(4), nn.SyncBatchNorm(4)])
def test_what_mixes_samples_and_is_not_replaced_is_named(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(4), nn.Sequential(layer))
    replace_batch_norms(network, 2)
    assert mixing_layers(network) == ["2.0"]
