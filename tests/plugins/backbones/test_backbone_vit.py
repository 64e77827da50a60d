"""The small ViT: its patches, its pooling, its attention, and every refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from ddm_backbones.vit import build

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError

Info = Callable[..., DataInfo]
SLIM = {"width": 8, "depth": 1, "heads": 2}


@pytest.mark.parametrize(("size", "patch"), [(1, 1), (8, 1), (28, 4), (29, 1), (32, 4), (48, 6), (64, 8)])
def test_patch_that_is_chosen(info: Info, size: int, patch: int) -> None:
    network = build(info(size), **SLIM)
    assert network.patch_embed.proj.kernel_size == (patch, patch)
    assert network(torch.randn(2, 1, size, size)).shape == (2, 3)


def test_patch_of_an_image_that_is_not_square() -> None:
    data = DataInfo((3, 28, 42), 3, (0.5,) * 3, (0.25,) * 3, ("a", "b", "c"))
    network = build(data, **SLIM)
    assert network.patch_embed.grid_size == (14, 21)
    assert network(torch.randn(1, 3, 28, 42)).shape == (1, 3)


def test_patch_that_does_not_tile_the_image(info: Info) -> None:
    wanted = r"`patch_size: 5` do not tile images of 28x28 pixels; take one of 1, 2, 4, 7, 14, 28, or leave it out"
    with pytest.raises(DDMError, match=wanted):
        build(info(28), patch_size=5)


def test_heads_must_divide_the_width(info: Info) -> None:
    with pytest.raises(DDMError, match="`width: 64` cannot be divided into `heads: 3`"):
        build(info(28), width=64)


@pytest.mark.parametrize(("pool", "tokens"), [("avg", 16), ("token", 17)])
def test_pooling_and_class_token(info: Info, pool: str, tokens: int) -> None:
    network = build(info(32, 3), patch_size=8, pool=pool, **SLIM)
    assert network.pos_embed.shape == (1, tokens, 8)
    assert (network.cls_token is not None) == (pool == "token")


def test_attention_is_not_fused_here_and_as_before_elsewhere(info: Info) -> None:
    before = timm.layers.use_fused_attn()
    network = build(info(32, 3), width=8, depth=3, heads=2)
    assert [layer.fused_attn for layer in network.modules() if hasattr(layer, "fused_attn")] == [False] * 3
    assert timm.layers.use_fused_attn() == before


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_no_parameter_is_idle(info: Info, pool: str) -> None:
    torch.manual_seed(0)
    network = build(info(28), pool=pool, **SLIM).double()
    network(torch.randn(2, 1, 28, 28, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-9 for parameter in network.parameters())
