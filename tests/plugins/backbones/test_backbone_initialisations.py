"""Initial weights by name: what is drawn how widely, what is left alone, and what refuses to be drawn anew."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ddm_backbones.initialisations import initialise
from ddm_backbones.timm import build as build_timm
from torch import nn

from ddm_framework.data.splits import DataInfo
from ddm_framework.errors import DDMError

Info = Callable[..., DataInfo]

BACKBONES: dict[str, dict[str, Any]] = {
    "convnet": {"width": 64, "norm": "group"},
    "alexnet": {"width": 32, "norm": "group"},
    "resnet": {"width": 32, "blocks": [1, 1, 1]},
    "vit": {"width": 64, "heads": 2, "depth": 1, "pool": "token"},
    "timm": {"model": "resnet10t"},
}
SHAPE = (6, 10, 3, 3)
STDS = {"kaiming": math.sqrt(2 / 90), "normal": 0.02, "xavier": math.sqrt(2 / (90 + 54))}
INITIALISATIONS = tuple(STDS)


def seeded(backbone: str, data: DataInfo, **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return importlib.import_module(f"ddm_backbones.{backbone}").build(data, **BACKBONES[backbone], **options)


def expected_std(weight: torch.Tensor, initialisation: str) -> float:
    fan_in = weight[0].numel()
    fan_out = weight.numel() // weight.shape[1]
    return {"kaiming": math.sqrt(2 / fan_in), "normal": 0.02, "xavier": math.sqrt(2 / (fan_in + fan_out))}[
        initialisation
    ]


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_spread_of_a_convolution_in_closed_form(initialisation: str) -> None:
    layers = nn.Sequential(*(nn.Conv2d(10, 6, 3) for _ in range(50)))
    initialise(layers, initialisation)
    weights = torch.stack([layer.weight for layer in layers])
    assert weights.shape[1:] == SHAPE
    assert weights.std().item() == pytest.approx(STDS[initialisation], rel=0.03)
    assert abs(weights.mean().item()) < 0.03 * STDS[initialisation]


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_weights_are_drawn_anew_and_the_rest_is_left_alone(backbone: str, initialisation: str, info: Info) -> None:
    plain = dict(seeded(backbone, info(32, 3)).named_parameters())
    network = seeded(backbone, info(32, 3), initialisation=initialisation)
    drawn = set()
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            drawn |= {f"{name}.{each}" for each, _ in layer.named_parameters()}
            spread = layer.weight.square().mean().sqrt().item()
            # Four standard errors of a standard deviation.
            allowed = 4 / math.sqrt(2 * layer.weight.numel())
            assert spread == pytest.approx(expected_std(layer.weight, initialisation), rel=allowed)
            assert layer.bias is None or not layer.bias.any()
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, plain[name]) == (name not in drawn or not plain[name].any())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_default_draws_nothing(backbone: str, info: Info) -> None:
    plain, default = (seeded(backbone, info(32, 3), **each) for each in ({}, {"initialisation": "default"}))
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), default.parameters(), strict=True))
    before = torch.get_rng_state()
    initialise(plain, "default")
    assert torch.equal(torch.get_rng_state(), before)


def test_default_of_convnet_is_that_of_its_layers(info: Info) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, 64, 3),
            nn.Conv2d(64, 64, 3),
            nn.Conv2d(64, 64, 3),
            nn.Linear(64 * 4 * 4, 3),
        ]
    network = seeded("convnet", info(32, 3))
    found = [layer for layer in network if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for wanted, layer in zip(layers, found, strict=True):
        assert torch.equal(layer.weight, wanted.weight)
        assert torch.equal(layer.bias, wanted.bias)


@pytest.mark.parametrize("loaded", [{"pretrained": True}, {"checkpoint": Path("w.safetensors")}])
def test_weights_that_are_loaded_are_not_drawn_anew(info: Info, loaded: dict[str, Any]) -> None:
    source = "pretrained: true" if "pretrained" in loaded else r"checkpoint: w\.safetensors"
    wanted = f"`initialisation: xavier` would overwrite the weights of `{source}`; drop one"
    with pytest.raises(DDMError, match=wanted):
        build_timm(info(32, 3), initialisation="xavier", **loaded)
